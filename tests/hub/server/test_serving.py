"""The server as a process."""

import json
import socket
import urllib.request

from adapterhub.http.listening import listen
from adapterhub.hub.server import accounts
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
