"""How many requests somebody may make, and how long they may be and last."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapterhub.http import connections
from adapterhub.http.limits import network
from adapterhub.hub.server import accounts, limits
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Database
from adapterhub.hub.server.errors import RateLimitError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.limits import Askers, Limiter
from adapterhub.hub.server.settings import Settings
from hub.server.postgres import on_both
from hub.server.running import Running, start


def limiter(hub: Hub, **limits: int) -> Limiter:
    return Limiter(Database(str(hub.settings.database_url)), Settings(**limits))


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is changed."""
    clock = [60.0 * 1000 + 12]
    monkeypatch.setattr(limits.time, "time", lambda: clock[0])
    return clock


@on_both
def test_workers_count_together(hub: Hub, noon: list[float]) -> None:
    one, two = limiter(hub, requests_per_minute=10), limiter(hub, requests_per_minute=10)
    assert [one.count("ann", "GET").left for _ in range(6)] == [9, 8, 7, 6, 5, 4]
    assert two.count("ann", "GET").left == 9  # it cannot know yet
    one.exchange()
    two.exchange()
    assert two.count("ann", "GET").left == 2
    assert [two.count("ann", "HEAD").left for _ in range(4)] == [1, 0, -1, -1]
    two.exchange()
    one.count("ann", "GET")
    one.exchange()
    assert one.count("ann", "GET").left < 0
    assert one.count("bob", "GET").left == 9
    noon[0] += 60
    assert one.count("ann", "GET").left == 9


def test_reads_and_writes_are_counted_apart(hub: Hub, noon: list[float]) -> None:
    one = limiter(hub, requests_per_minute=10, writes_per_minute=2)
    assert [one.count("ann", method).left for method in ("POST", "PUT", "DELETE")] == [1, 0, -1]
    seen = one.count("ann", "GET")
    assert (seen.left, seen.kind, seen.seconds) == (9, "reads", 48)
    assert seen.headers() == {
        "RateLimit": '"reads";r=9;t=48',
        "RateLimit-Policy": '"fixed window";"reads";q=10;w=60',
    }


def test_nothing_is_written_while_nothing_comes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    one = limiter(hub)
    one.count("ann", "GET")
    one.exchange()
    monkeypatch.setattr(one._database, "write", lambda: pytest.fail("it writes"))
    one.exchange()


def test_a_machine_is_counted_once_however_many_addresses_of_ipv6_it_has() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") == "192.0.2.1"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that takes few requests."""
    folder = tmp_path_factory.mktemp("narrow") / "hub"
    made = start(folder, ADAPTERHUB_REQUESTS_PER_MINUTE="5", ADAPTERHUB_WRITES_PER_MINUTE="3")
    made.add_user("ann")
    made.add_user("bob")
    yield made
    made.stop()


def test_whose_a_token_or_a_session_is(hub: Hub, ann: Actor) -> None:
    askers = Askers(hub.database)
    with hub.database.write() as session:
        user = accounts.account(session, "ann")
        token, cookie = accounts.new_token(session, user, "t", "read"), accounts.new_session(session, user)
    for value, whose in ((token, ann.id), (cookie, ann.id), ("nonsense", None), (f"{token[:-1]}x", None)):
        assert askers.known(value) == (False, None)
        assert askers.find(value) == whose
        assert askers.known(value) == (True, whose)


def test_attempts_are_counted_by_all_workers_at_once(hub: Hub, noon: list[float]) -> None:
    def attempt(key: str) -> None:
        with hub.database.write() as session:
            limits.attempt(session, key, 2)

    attempt("ann")
    attempt("ann")
    attempt("bob")
    with pytest.raises(RateLimitError) as refused:
        attempt("ann")
    assert refused.value.wait == 48
    noon[0] += 60
    attempt("ann")


def fresh_minute() -> None:
    """Wait for a minute that has a while to go."""
    if (left := 60 - time.time() % 60) < 15:
        time.sleep(left + 0.1)


def test_who_asks_too_often_waits_and_others_do_not(narrow: Running) -> None:
    fresh_minute()
    ann, bob = ({"Authorization": f"Bearer {narrow.token(name, 'read')}"} for name in ("ann", "bob"))
    with httpx.Client(base_url=narrow.url) as client:
        answers = [client.get("/api/v1/me", headers=ann) for _ in range(7)]
        assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
        refused = answers[-1]
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit"].startswith('"reads";r=0;t=')
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/api/v1/me", headers=bob).status_code == 200
        assert client.get("/health").status_code == 200
        assert client.get("/ready-made/adapter", headers=ann).status_code == 429
        strangers = [client.get("/api/v1/accounts/ann", headers={"Authorization": f"Bearer hf_{n}"}) for n in range(7)]
        assert [one.status_code for one in strangers].count(429) == 2  # made-up tokens win nothing


def test_a_stock_client_waits_and_succeeds(narrow: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """``huggingface_hub`` reads the headers; its sleep is watched, and cut short by a new minute of ours."""
    from huggingface_hub.utils import _http

    if left := max(0.0, 60 - time.time() % 60 - 4):
        time.sleep(left if left < 8 else 0)
    token = narrow.token("bob", "read")
    slept: list[float] = []
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: slept.append(seconds))
    headers = {"Authorization": f"Bearer {token}"}
    for _ in range(6):
        with httpx.Client() as client:
            client.get(f"{narrow.url}/api/v1/me", headers=headers)
    with pytest.raises(Exception, match="429"):
        _http.http_backoff("GET", f"{narrow.url}/api/v1/me", headers=headers, max_retries=1).raise_for_status()
    assert slept and 1 <= slept[0] <= 61


def test_long_bodies_are_refused_before_they_are_read(running: Running) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (1 << 20)

    with httpx.Client(base_url=running.url) as client:
        for url in ("/api/v1/organisations", "/api/validate-yaml", "/no/such/place"):
            announced = client.post(url, content=b" " * (9 << 20))
            assert announced.status_code == 413, url
        unannounced = client.post("/api/v1/organisations", content=pieces())
        assert unannounced.status_code == 413


def talk(running: Running, *sent: bytes) -> bytes:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        for piece in sent:
            connection.sendall(piece)
        answer = b""
        try:
            while piece := connection.recv(1 << 16):
                answer += piece
        except ConnectionResetError:
            return answer
        return answer


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server within this process, that waits for nobody."""
    import uvicorn

    from adapterhub.http import bodies
    from adapterhub.hub.server.app import create_app

    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "_BODY_SECONDS", 0.5)
    config = uvicorn.Config(
        create_app(Settings(directory=tmp_path / "hub")), port=0, http=connections.Connection, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    made: Any = Running(tmp_path / "hub", f"http://127.0.0.1:{port}", None)  # type: ignore[arg-type]
    yield made
    server.should_exit = True
    thread.join()


def test_slow_clients_are_sent_away(hasty: Running) -> None:
    begun = time.monotonic()
    assert talk(hasty) == b""
    assert talk(hasty, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
    second = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk(hasty, second, b"GET /health HTTP/1.1\r\nHo").count(b"200 OK") == 1
    head = (
        b"POST /api/v1/organisations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    )
    assert b"408" in talk(hasty, head + b"Connection: close\r\n\r\n{").splitlines()[0]
    assert time.monotonic() - begun < 10
