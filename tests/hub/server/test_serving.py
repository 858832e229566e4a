"""The server as a process."""

import gc
import json
import socket
import urllib.request
from pathlib import Path

import pytest
import uvicorn

from adapterhub.http.listening import listen
from adapterhub.hub.server import accounts
from adapterhub.hub.server.serving import serve
from adapterhub.hub.server.settings import Settings
from hub.server.running import Running, run


def test_it_answers(running: Running) -> None:
    with urllib.request.urlopen(f"{running.url}/health") as answer:
        assert answer.status == 200


def test_users_and_tokens_are_made_on_its_machine(running: Running) -> None:
    run("hub", "user", "add", "carl", "--dir", str(running.folder))
    printed = run("hub", "token", "--dir", str(running.folder), "--user", "carl", "--scope", "write")
    assert accounts.is_token(printed.strip())
    request = urllib.request.Request(f"{running.url}/api/v1/me", headers={"Authorization": f"Bearer {printed.strip()}"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["scope"] == "write"


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    """A head and a body are two writes: without the option the second is held back for 40 ms."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_garbage_collections_leave_out_what_the_start_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each full one holds up the requests of a tenth of a second."""
    left: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: left.append(len(gc.get_objects())))
    before = len(gc.get_objects())
    try:
        serve(Settings(directory=tmp_path), "127.0.0.1", 0, 1, lambda port: None)
    finally:
        gc.unfreeze()
    assert left[0] < before / 10
