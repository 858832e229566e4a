"""Several workers: what one has acknowledged the others have, whichever of them dies."""

import base64
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import STRANGER
from adapterhub.hub.server.database import Commit
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs.scrubbing import damage
from hub.server.postgres import on_both
from hub.server.running import Running, start
from processes import children, runs, wait_for


def workers(running: Running) -> list[int]:
    """The processes that answer."""
    found = children(running.process.pid)
    return [one for one in found if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text()]


def commit(running: Running, token: str, name: str, number: int) -> str | None:
    """Publish a file; the id of the commit if it was acknowledged."""
    content = base64.b64encode(f"{name} {number}".encode()).decode()
    lines = [
        {"key": "header", "value": {"summary": f"Change {number}"}},
        {"key": "file", "value": {"path": f"{number}.txt", "content": content, "encoding": "base64"}},
    ]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    body = "\n".join(map(json.dumps, lines))
    try:
        answer = httpx.post(
            f"{running.url}/api/models/ann/{name}/commit/main", content=body, headers=headers, timeout=60
        )
    except httpx.HTTPError:
        return None
    if answer.status_code != 200:
        assert answer.status_code in (409, 412, 503), answer.text
        return None
    oid: str = answer.json()["commitOid"]
    return oid


@contextmanager
def publishing(running: Running, names: list[str]) -> Iterator[list[tuple[str, str]]]:
    """Clients that publish until the block ends; what was acknowledged to them."""
    token, ended = running.token("ann"), threading.Event()
    with running._hub() as hub, hub.database.write() as session:
        from adapterhub.hub.server import accounts

        ann = accounts.actor(accounts.account(session, "ann"))
        for name in names:
            repositories.create(session, ann, "ann", name)
    acknowledged: list[tuple[str, str]] = []

    def publish(name: str) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            if (oid := commit(running, token, name, number)) is not None:
                acknowledged.append((name, oid))

    threads = [threading.Thread(target=publish, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def check(running: Running, acknowledged: list[tuple[str, str]]) -> None:
    """Every commit that was acknowledged is in the history of its branch, and whole."""
    hub = Hub.open(running.settings())
    with hub.database.read() as session:
        for name in {name for name, _ in acknowledged}:
            repository = repositories.find(session, STRANGER, "ann", name)
            head = repositories.revision(session, repository, "main")
            history = {one.oid for one in repositories.history(session, repository, head)}
            assert {oid for of, oid in acknowledged if of == name} <= history
            assert session.get(Commit, (repository.id, head.oid)) is not None
    assert list(damage(hub)) == []
    hub.close()


@on_both
def test_nothing_acknowledged_is_lost_when_workers_die_and_the_server_ends(tmp_path: Path, database: str) -> None:
    running = start(tmp_path / "hub", "--workers", "2", ADAPTERHUB_DATABASE=database)
    running.add_user("ann")
    with publishing(running, ["a", "b", "c"]) as acknowledged:
        wait_for(lambda: len(acknowledged) > 5)
        killed = workers(running)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: killed not in workers(running) and len(workers(running)) == 2)
        seen = len(acknowledged)
        wait_for(lambda: len(acknowledged) > seen + 5)
        running.stop()
        assert running.process.returncode == 0
    check(running, acknowledged)
    again = start(tmp_path / "hub", "--workers", "2", ADAPTERHUB_DATABASE=database)
    assert httpx.get(f"{again.url}/api/models/ann/a", timeout=30).json()["sha"]
    again.stop()


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    running = start(tmp_path / "hub", "--workers", "2")
    wait_for(lambda: len(workers(running)) == 2)
    killed, port = workers(running)[0], int(running.url.rpartition(":")[2])
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: killed not in workers(running) and len(workers(running)) == 2)
    found = workers(running)  # one of them has only begun to start
    running.stop(signal.SIGKILL)
    wait_for(lambda: not any(runs(one) for one in found))
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
