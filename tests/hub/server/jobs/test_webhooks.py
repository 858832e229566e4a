"""Webhooks, told by a real server."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.blobs import receive
from adapterhub.hub.server.commits import Message, Put, publish
from adapterhub.hub.server.database import Account, Job, now
from adapterhub.hub.server.hub import Hub
from hub.server.receiving import Receiver, receiving
from hub.server.running import Running, start
from processes import wait_for


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(scope="module")
def told(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    hosts = json.dumps([f"127.0.0.1:{receiver.port}"])
    made = start(tmp_path_factory.mktemp("told") / "hub", ADAPTERHUB_PRIVATE_HOSTS=hosts)
    for name in ("ann", "bob"):
        made.add_user(name)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def clients(told: Running) -> Iterator[Callable[[str], httpx.Client]]:
    made = []

    def client(name: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {told.token(name, 'admin')}"}
        made.append(httpx.Client(base_url=f"{told.url}/api/v1", headers=headers))
        return made[-1]

    yield client
    for one in made:
        one.close()


def tried(client: httpx.Client, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    shown = client.get(f"/webhooks/{webhook['id']}/deliveries").json()
    return [one for one in shown if one["attempts"]]


def of(receiver: Receiver, event: str) -> list[dict[str, Any]]:
    return [json.loads(body) for headers, body in receiver.got if headers["x-adapterhub-event"] == event]


def as_user(running: Running, name: str) -> tuple[Hub, Actor]:
    hub = Hub.open(running.settings())
    with hub.database.read() as session:
        account = session.scalars(select(Account).where(Account.key == name)).one()
        return hub, Actor(account.id, account.name, "admin")


def test_what_happens_is_told_signed(
    told: Running, receiver: Receiver, clients: Callable[[str], httpx.Client], tmp_path: Path
) -> None:
    ann = clients("ann")
    made = ann.post("/webhooks", json={"url": receiver.url}).json()
    wait_for(lambda: of(receiver, "ping"))
    assert made["secret"] not in ann.get("/webhooks").text
    hub, actor = as_user(told, "ann")
    with hub.database.write() as session:
        repositories.create(session, actor, "ann", "sst2")
    sha256 = receive(hub, actor, b"# A card\n", "README.md")
    commit = publish(hub, actor, "ann", "sst2", "main", [Put("README.md", sha256)], Message("A card"))
    with hub.database.write() as session:
        repository = repositories.find(session, actor, "ann", "sst2")
        repositories.add_tag(session, actor, repository, "v1", "main")
    (tagged,) = wait_for(lambda: of(receiver, "tag.create"))
    assert (tagged["repository"], tagged["actor"], tagged["detail"]["name"]) == ("ann/sst2", "ann", "v1")
    (committed,) = wait_for(lambda: of(receiver, "commit"))
    assert committed["detail"]["oid"] == commit.oid
    for headers, body in receiver.got:
        stamp = headers["x-adapterhub-timestamp"]
        right = hmac.new(made["secret"].encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["x-adapterhub-signature"] == f"sha256={right}"
        assert abs(int(stamp) - time.time()) < 60
    shown = ann.get(f"/webhooks/{made['id']}/deliveries").json()
    assert {"commit", "tag.create", "repository.create", "ping"} == {one["event"] for one in shown}
    assert {one["status"] for one in shown} == {200}
    again = ann.post(f"/webhooks/{made['id']}/deliveries/{shown[0]['id']}")
    assert again.status_code == 202
    wait_for(lambda: len(of(receiver, shown[0]["event"])) == 2)
    assert ann.delete(f"/webhooks/{made['id']}").status_code == 204
    hub.close()


def test_what_is_not_taken_is_sent_again(
    told: Running, receiver: Receiver, clients: Callable[[str], httpx.Client]
) -> None:
    bob = clients("bob")
    receiver.statuses, before = [500], len(receiver.got)
    made = bob.post("/webhooks", json={"url": receiver.url, "events": ["commit"]}).json()
    wait_for(lambda: len(receiver.got) > before)
    (delivery,) = wait_for(lambda: tried(bob, made))
    assert delivery["status"] == 500
    hub, actor = as_user(told, "bob")
    with hub.database.write() as session:
        repositories.create(session, actor, "bob", "quiet")  # not among what it wants to be told
        for job in session.scalars(select(Job).where(Job.kind == "webhook", Job.finished.is_(None))):
            job.due = now()
    hub.close()
    wait_for(lambda: bob.get(f"/webhooks/{made['id']}/deliveries").json()[0]["status"] == 200)
    assert len(bob.get(f"/webhooks/{made['id']}/deliveries").json()) == 1
    assert len(receiver.got) == before + 2


def test_a_webhook_is_of_its_account_alone(receiver: Receiver, clients: Callable[[str], httpx.Client]) -> None:
    ann, bob = clients("ann"), clients("bob")
    made = ann.post("/webhooks", json={"url": receiver.url}).json()
    assert bob.get(f"/webhooks/{made['id']}/deliveries").status_code == 404
    assert bob.delete(f"/webhooks/{made['id']}").status_code == 404
    assert bob.post("/webhooks", json={"url": receiver.url, "account": "ann"}).status_code == 403
    assert bob.get("/webhooks", params={"account": "ann"}).status_code == 403


def test_private_machines_are_told_nothing(clients: Callable[[str], httpx.Client]) -> None:
    ann = clients("ann")
    for url in ("http://169.254.169.254/", "http://127.0.0.1:1/", "file:///etc/passwd", "https://[::1]/"):
        assert ann.post("/webhooks", json={"url": url}).status_code == 403
    made = ann.post("/webhooks", json={"url": "http://localhost:8080/"}).json()  # a name: known when it is looked up
    (delivery,) = wait_for(lambda: tried(ann, made))
    assert delivery["status"] is None and "no public machine" in delivery["error"]
