"""Large files by git LFS."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from adapterhub.errors import HubAccessError
from adapterhub.hub.server import accounts, blobs, repositories, signing
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.database import Account, Piece, Upload
from adapterhub.hub.server.hub import Hub

STEP = 1000
BATCH = "/ann/notes.git/info/lfs/objects/batch"


class Client:
    """Somebody who sends files as clients of LFS do."""

    def __init__(self, http: TestClient, token: str) -> None:
        self.http, self.headers = http, {"authorization": f"Bearer {token}"}

    def batch(self, data: bytes) -> dict[str, Any]:
        """What is to be done with a file."""
        asked = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [named(data)]}
        answer = self.http.post(BATCH, json=asked, headers=self.headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["transfer"] == "basic"
        [told] = answer.json()["objects"]
        return dict(told)

    def send(self, data: bytes) -> None:
        """A file, with all that belongs to it."""
        actions = self.batch(data)["actions"]
        header = actions["upload"].get("header")
        if header is None:
            assert self.put(actions["upload"]["href"], data) == 200
        else:
            assert self.complete(actions, self.parts(header, data)) == 200
        assert self.http.post(actions["verify"]["href"], json=named(data), headers=self.headers).status_code == 200

    def put(self, address: str, data: bytes) -> int:
        """The status for bytes that are sent without a token."""
        return self.http.put(address, content=data).status_code

    def parts(self, header: dict[str, str], data: bytes) -> list[dict[str, Any]]:
        """What is to be said of the parts of a file that were sent."""
        step, told = int(header["chunk_size"]), []
        for number in range(1, len(header)):
            answer = self.http.put(header[str(number)], content=data[(number - 1) * step : number * step])
            assert answer.status_code == 200, answer.text
            told.append({"partNumber": number, "etag": answer.headers["etag"]})
        return told

    def complete(self, actions: dict[str, Any], parts: list[dict[str, Any]]) -> int:
        """The status for parts that are said to make a file."""
        body = {"oid": "0", "parts": parts}
        return self.http.post(actions["upload"]["href"], json=body).status_code


def named(data: bytes) -> dict[str, Any]:
    return {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}


@pytest.fixture
def http(hub: Hub) -> Iterator[TestClient]:
    with TestClient(create_app(hub.settings.model_copy(update={"part_bytes": STEP}))) as made:
        yield made


@pytest.fixture
def client(hub: Hub, ann: Actor, http: TestClient) -> Client:
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    return Client(http, token(hub, "ann"))


def token(hub: Hub, name: str, scope: Any = "write") -> str:
    with hub.database.write() as session:
        return accounts.new_token(session, accounts.account(session, name), "test", scope)


def waiting(hub: Hub, actor: Actor, data: bytes) -> bool:
    return blobs.is_waiting(hub, actor, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 2 * STEP, 5 * STEP - 3])
def test_a_file_comes_whole_or_in_parts(hub: Hub, ann: Actor, client: Client, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    client.send(data)
    assert hub.store.open(named(data)["oid"]).read() == data
    assert waiting(hub, ann, data)
    assert "actions" not in client.batch(data)
    with hub.database.read() as session:
        assert session.query(Piece).count() == 0


def test_parts_can_be_sent_again_and_in_any_order_and_completed_twice(hub: Hub, ann: Actor, client: Client) -> None:
    data = bytes(5 * STEP // 2)
    actions = client.batch(data)["actions"]
    header = actions["upload"]["header"]
    assert client.put(header["3"], data[2 * STEP :]) == 200
    assert client.complete(actions, [{"partNumber": number} for number in (1, 2, 3)]) == 422  # two are missing
    actions = client.batch(data)["actions"]  # as an upload does that begins again
    parts = client.parts(actions["upload"]["header"], data)
    assert client.complete(actions, parts[:2]) == 422
    assert not waiting(hub, ann, data)
    assert client.complete(actions, parts) == 200
    assert client.complete(actions, parts) == 200
    assert waiting(hub, ann, data)


def test_bytes_that_are_not_the_ones_are_refused(hub: Hub, ann: Actor, client: Client) -> None:
    data = b"abc" * 100
    address = client.batch(data)["actions"]["upload"]["href"]
    assert client.put(address, b"abd" * 100) == 422
    assert client.put(address, data[:-1]) == 422
    assert client.put(address, data + b"a") == 413
    assert client.http.put(address, content=(part for part in [data, b"a"])).status_code == 413
    many = b"x" * (STEP + 5)
    actions = client.batch(many)["actions"]
    assert client.put(actions["upload"]["header"]["2"], b"xxxx") == 422
    assert client.put(actions["upload"]["header"]["1"], b"y" * STEP) == 200
    assert client.put(actions["upload"]["header"]["2"], b"xxxxx") == 200
    assert client.complete(actions, [{"partNumber": 1}, {"partNumber": 2}]) == 422
    assert not waiting(hub, ann, data)
    assert not waiting(hub, ann, many)
    assert not list(hub.uploads.iterdir())
    assert (
        client.http.post("/ann/notes.git/info/lfs/verify", json=named(data), headers=client.headers).status_code == 404
    )


def test_addresses_are_good_for_what_they_were_signed_for(hub: Hub, ann: Actor, client: Client) -> None:
    whole = client.batch(b"abc")["actions"]["upload"]["href"]
    part = client.batch(bytes(STEP + 1))["actions"]["upload"]["header"]["1"]
    assert client.put(whole.replace("/lfs/whole/", "/lfs/part/"), b"abc") == 403
    assert client.put(part.replace("/lfs/part/", "/lfs/whole/"), bytes(STEP)) == 403
    assert client.put(whole[:-9] + ("A" if whole[-9] != "A" else "B") + whole[-8:], b"abc") == 403
    assert client.put("/lfs/whole/nothing", b"abc") == 403
    other = Hub(hub.settings, hub.database, hub.store, "another key")
    forged = signing.sign(other, "address of a file", {"account": ann.id, "repository": 1, "scope": "write"})
    assert client.put(f"/lfs/whole/{forged}", b"abc") == 403
    with pytest.raises(HubAccessError, match="not any more"):
        signing.signed(hub, "address of a file", whole.rpartition("/")[2], -1)
    with hub.database.write() as session:
        session.get_one(Account, ann.id).disabled = True
    assert client.put(whole, b"abc") == 404


def test_who_may_not(hub: Hub, client: Client, bob: Actor) -> None:
    asked = {"operation": "upload", "objects": [named(b"abc")]}
    for headers, status in (
        ({}, 401),
        ({"authorization": f"Bearer {token(hub, 'bob')}"}, 403),
        ({"authorization": f"Bearer {token(hub, 'ann', 'read')}"}, 403),
    ):
        assert client.http.post(BATCH, json=asked, headers=headers).status_code == status
    client.send(b"abc")
    with hub.database.read() as session:
        assert [one.account_id for one in session.query(Upload)] != [bob.id]


def test_a_batch_tells_which_files_are_too_large_and_refuses_what_is_none(hub: Hub, client: Client) -> None:
    oid = named(b"abc")["oid"]
    asked = {"operation": "upload", "objects": [{"oid": oid, "size": hub.settings.max_file_bytes + 1}]}
    [told] = client.http.post(BATCH, json=asked, headers=client.headers).json()["objects"]
    assert told["error"]["code"] == 413
    for wrong in ({"oid": "x", "size": 1}, {"oid": oid, "size": -1}, {"oid": oid}, 1):
        asked = {"operation": "upload", "objects": [wrong]}
        assert client.http.post(BATCH, json=asked, headers=client.headers).status_code == 422
    download = {"operation": "download", "objects": []}
    assert client.http.post(BATCH, json=download, headers=client.headers).status_code == 422


def test_what_waits_for_a_commit_is_limited(hub: Hub, ann: Actor, http: TestClient, tmp_path: Path) -> None:
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    small = hub.settings.model_copy(update={"quota_bytes": 10 * STEP, "part_bytes": STEP})
    with TestClient(create_app(small)) as made:
        client = Client(made, token(hub, "ann"))
        header = client.batch(bytes(20 * STEP))["actions"]["upload"]["header"]
        statuses = [client.put(header[str(number)], bytes(STEP - 1) + bytes([number])) for number in range(1, 20)]
    assert statuses == [200] * 10 + [413] * 9
