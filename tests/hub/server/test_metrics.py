"""What is measured and logged, and who may see it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.server.running import Running, start


def measured(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("watched")
    options = {"ADAPTERHUB_ACCESS_LOG": "true"}
    made = start(folder / "hub", "--workers", str(request.param), log=folder / "log", **options)
    made.add_user("ann")
    made.add_user("boss", admin=True)
    yield made
    made.stop()


def test_requests_of_all_workers_are_counted(watched: Running) -> None:
    token = watched.token("boss", "admin")
    for _ in range(30):  # each on a connection of its own, so that every worker gets some
        assert httpx.get(f"{watched.url}/api/v1/accounts/ann").status_code == 200
    made = httpx.post(
        f"{watched.url}/api/v1/organisations", json={"name": "lab"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert made.status_code == 201
    httpx.get(f"{watched.url}/no/such/thing/at/all")
    httpx.get(f"{watched.url}/ann/no-adapter/resolve/refs%2Fheads%2Fmain/README.md")
    for _ in range(3):
        seen = measured(httpx.get(f"{watched.url}/metrics").text)
        route = ("route", "/api/v1/accounts/{name}")
        assert seen["adapterhub_requests_total", (("method", "GET"), route, ("status", "200"))] == 30
        assert seen["adapterhub_request_seconds_count", (route,)] == 30
        resolve = ("route", "/{owner}/{name}/resolve/{rev}/{path:path}")
        assert seen["adapterhub_requests_total", (("method", "GET"), resolve, ("status", "404"))] == 1
        assert seen["adapterhub_actions_total", (("action", "organisation.create"),)] == 1
        assert seen["adapterhub_accounts", ()] == 3
        assert seen["adapterhub_database_up", ()] == seen["adapterhub_store_up", ()] == 1
        assert seen["adapterhub_jobs", (("kind", "tidy"), ("state", "waiting"))] == 1
        assert seen["adapterhub_received_bytes_total", (("route", "/api/v1/organisations"),)] > 5
        assert not [labels for _, labels in seen if ("route", "/no/such/thing/at/all") in labels]


def test_strangers_elsewhere_may_not_see_them(watched: Running) -> None:
    def status(**headers: str) -> int:
        return httpx.get(f"{watched.url}/metrics", headers={"X-Forwarded-For": "192.0.2.7", **headers}).status_code

    assert status() == 401
    assert status(Authorization=f"Bearer {watched.token('ann', 'admin')}") == 403
    assert status(Authorization=f"Bearer {watched.token('boss', 'read')}") == 403
    assert status(Authorization=f"Bearer {watched.token('boss', 'admin')}") == 200


def test_the_log_holds_every_request_and_no_secret(watched: Running) -> None:
    token, log = watched.token("ann", "admin"), watched.folder.parent / "log"
    with httpx.Client(base_url=watched.url, headers={"Authorization": f"Bearer {token}"}) as client:
        made = client.post("/api/v1/tokens", json={"name": "t", "scope": "read"}).json()["value"]
        answer = client.get("/api/v1/me", params={"code": "the-code-of-setup", "token": token})
        client.get(f"/{token}/hf_abcdefghijklmnop/x")
        client.put("/lfs/whole/an-address-that-was-signed", content=b"x")
        client.get("/xet/0123456789abcdef0123456789abcdef/v1/chunks")
        client.get("/", headers={"Cookie": "adapterhub_session=the-session"})
    deadline = time.monotonic() + 10
    while (number := answer.headers["x-request-id"]) not in log.read_text() or "/xet/" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    text = log.read_text()
    for secret in (token, made, "hf_abcdef", "the-code", "that-was-signed", "0123456789abcdef0123", "the-session"):
        assert secret not in text, secret
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (mine,) = [line for line in lines if line["id"] == number]
    told = (mine["method"], mine["path"], mine["route"], mine["status"], mine["account"], mine["address"])
    assert told == ("GET", "/api/v1/me", "/api/v1/me", 200, 1, "127.0.0.1")


def test_it_is_not_ready_when_it_cannot_write(tmp_path: Path) -> None:
    running = start(tmp_path / "hub")
    assert httpx.get(f"{running.url}/ready").json() == {"status": "ok", "database": "ok", "store": "ok"}
    blobs = tmp_path / "hub" / "blobs"
    blobs.rename(tmp_path / "away")
    blobs.write_text("no folder")
    deadline = time.monotonic() + 15
    while (answer := httpx.get(f"{running.url}/ready")).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert answer.status_code == 503 and answer.json()["database"] == "ok" and answer.json()["store"] != "ok"
    assert httpx.get(f"{running.url}/health").status_code == 200
    assert measured(httpx.get(f"{running.url}/metrics").text)["adapterhub_store_up", ()] == 0
    running.stop()
