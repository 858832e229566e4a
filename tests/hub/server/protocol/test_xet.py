"""Large files by Xet, sent by the client that huggingface_hub uses, and by somebody who means harm."""

import hashlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hf_xet
import numpy
import pytest
from fastapi.testclient import TestClient

from adapterhub.hub.server import accounts, blobs, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.database import Piece
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.xet import format
from adapterhub.hub.server.settings import Settings
from hub.server.protocol.xet_files import GROUPED, LZ4, RAW, chunk, packed, shard, xorb
from hub.server.running import Running

MIB = 1 << 20
ROUTE = "/api/models/ann/notes/xet-write-token/main"
NAME = "a" * 64
RANDOM = numpy.random.default_rng(0)
CORPUS: Mapping[str, bytes] = {
    "random": RANDOM.bytes(3 * MIB),
    "weights": RANDOM.normal(size=MIB).astype("float32").tobytes(),
    "half": RANDOM.normal(size=MIB).astype("float16").tobytes(),
    "text": b"Nothing is written here that is not written elsewhere. " * 40_000,
    "repeated": RANDOM.bytes(500_000) * 5,
    "zeros": bytes(4 * MIB),
    "one byte": b"1",
    "odd": RANDOM.bytes(65_537),
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place for what the client remembers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_XET_CACHE", str(tmp_path_factory.mktemp("xet")))
        yield


@pytest.fixture(scope="module")
def served(running: Running) -> Iterator[Hub]:
    """The hub of the server, with a repository of ann's."""
    hub = Hub.open(Settings(directory=running.folder))
    with hub.database.write() as session:
        ann = accounts.actor(accounts.account(session, "ann"))
        repositories.create(session, ann, "ann", "notes")
    yield hub
    hub.close()


def send(url: str, token: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """What ``huggingface_hub`` does with large files; returns the SHA-256 that the client found of each."""
    commit = hf_xet.XetSession().new_upload_commit(
        token_refresh_url=url + ROUTE, token_refresh_headers={"authorization": f"Bearer {token}"}, custom_headers={}
    )
    handles = {
        name: commit.start_upload_bytes(data, sha256=hf_xet.COMPUTE_SHA256, name=name) for name, data in files.items()
    }
    commit.wait_to_finish()
    return {name: handle.result().xet_info.sha256 for name, handle in handles.items()}


def schemes(hub: Hub) -> set[int]:
    """How the chunks of all xorbs are packed that came."""
    with hub.database.read() as session:
        found = set()
        for piece in session.query(Piece):
            with hub.store.open(piece.sha256) as stream:
                found |= {one.scheme for one in format.chunks(stream)}
    return found


def test_what_the_client_sends_arrives(served: Hub, running: Running) -> None:
    """All in one push, and then again: the client remembers what it sent, but sends it again to a new address."""
    token = running.token("ann")
    for _ in range(2):
        sent = send(running.url, token, CORPUS)
        for name, data in CORPUS.items():
            assert sent[name] == hashlib.sha256(data).hexdigest()
            assert served.store.open(sent[name]).read() == data
    assert schemes(served) == {RAW, LZ4, GROUPED}


@pytest.mark.parametrize("size", [64 * MIB - 1, 64 * MIB, 64 * MIB + 1, 200 * MIB])
def test_files_as_large_as_a_xorb(served: Hub, running: Running, size: int) -> None:
    data = RANDOM.bytes(size)
    sent = send(running.url, running.token("ann"), {"large": data})
    assert hashlib.file_digest(served.store.open(sent["large"]), "sha256").hexdigest() == sent["large"]


def test_who_may_not_gets_no_token(served: Hub, running: Running) -> None:
    for token, status in ((None, 401), (running.token("bob"), 403), (running.token("ann", "read"), 403)):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(running.url + ROUTE, headers=headers))
        assert error.value.code == status


def peak(running: Running) -> int:
    """The most memory that the server ever had, in bytes."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_bombs_take_no_memory_and_leave_nothing(served: Hub, running: Running) -> None:
    """64 MiB of xorb that would be 16 GiB, segments without number, and files larger than may be."""
    request = urllib.request.Request(running.url + ROUTE, headers={"authorization": f"Bearer {running.token('ann')}"})
    granted = json.load(urllib.request.urlopen(request))

    def post(path: str, data: bytes) -> int:
        headers = {"authorization": f"Bearer {granted['accessToken']}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{granted['casUrl']}/v1/{path}", data, headers)
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:  # it was refused before all was sent
            return 413

    before, largest = peak(running), 128 << 10
    bomb = packed(bytes(largest * 255), LZ4)[:largest]
    full = chunk(packed(bytes(largest), LZ4), LZ4, largest)
    assert post(f"xorbs/default/{'b' * 64}", chunk(bomb, LZ4, largest) * 500) == 200
    assert post(f"xorbs/default/{'c' * 64}", full * 8192) == 200  # a whole GiB, as it may be
    assert post(f"xorbs/default/{'d' * 64}", full * 8193) == 422
    assert post("shards", shard([(None, [("b" * 64, 0, 500, 500 * largest)])])) == 422
    gib = ("c" * 64, 0, 8192, 8192 * largest)
    assert post("shards", shard([(None, [gib] * 3)])) == 413
    assert post("shards", shard([(None, [("c" * 64, 0, 1, 1)] * 300_000)])) == 422
    assert post("shards", shard([(None, [gib])], counts=[2**32 - 1])) == 422
    assert post("shards", shard([(NAME, [("c" * 64, 0, 1, largest)])])) == 422  # another SHA-256
    assert post("shards", shard([(None, [("c" * 64, 8191, 8193, largest)])])) == 422
    assert post("shards", shard([(None, [("e" * 64, 0, 1, largest)])])) == 422  # no such xorb
    assert post(f"xorbs/default/{'f' * 64}", bytes(66 * MIB)) == 413
    assert post("shards", bytes(65 * MIB)) == 413
    assert peak(running) < before + 150 * MIB
    assert not list(served.uploads.iterdir())


class Sender:
    """Somebody with a token of Xet, inside of this process."""

    def __init__(self, http: TestClient, headers: dict[str, str]) -> None:
        self.http = http
        answer = http.get(ROUTE, headers=headers)
        assert answer.headers["x-xet-access-token"] == answer.json()["accessToken"]
        self.address = answer.json()["casUrl"]
        self.headers = {"authorization": f"Bearer {answer.json()['accessToken']}"}

    def post(self, path: str, data: bytes) -> Any:
        """The answer to something that is sent."""
        return self.http.post(f"{self.address}/v1/{path}", content=data, headers=self.headers)


@pytest.fixture
def http(hub: Hub, ann: Actor) -> Iterator[TestClient]:
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    with TestClient(create_app(hub.settings)) as made:
        yield made


@pytest.fixture
def headers(hub: Hub, ann: Actor) -> dict[str, str]:
    with hub.database.write() as session:
        value = accounts.new_token(session, accounts.account(session, "ann"), "test", "write")
    return {"authorization": f"Bearer {value}"}


def test_files_are_made_of_segments_as_the_shard_says(
    hub: Hub, ann: Actor, http: TestClient, headers: dict[str, str]
) -> None:
    sender = Sender(http, headers)
    parts = [b"one ", b"two ", b"three "]
    first, second = "1" * 64, "2" * 64
    assert sender.post(f"xorbs/default/{first}", xorb(parts, RAW)).json() == {"was_inserted": True}
    assert sender.post(f"xorbs/default/{second}", xorb(parts, GROUPED)).json() == {"was_inserted": True}
    data = b"two three one two two "
    sha256 = hashlib.sha256(data).hexdigest()
    told = [(first, 1, 3, 10), (second, 0, 2, 8), (second, 1, 2, 4)]
    assert sender.post("shards", shard([(sha256, told), (None, [])])).json() == {"result": 1}
    assert hub.store.open(sha256).read() == data
    assert blobs.is_waiting(hub, ann, sha256)


def test_another_worker_finds_the_xorbs_and_another_address_or_account_does_not(
    hub: Hub, ann: Actor, bob: Actor, http: TestClient, headers: dict[str, str]
) -> None:
    sender, again = Sender(http, headers), Sender(http, headers)
    assert sender.address != again.address
    assert sender.post(f"xorbs/default/{NAME}", xorb([b"abc"], RAW)).status_code == 200
    made = shard([(hashlib.sha256(b"abc").hexdigest(), [(NAME, 0, 1, 3)])])
    refused = again.post("shards", made)
    assert refused.status_code == 422
    assert "was not sent to this address" in refused.json()["error"]
    with TestClient(create_app(hub.settings)) as other:
        sender.http = other
        sender.headers = again.headers  # a client renews its token and keeps its address
        assert sender.post("shards", made).status_code == 200
    with hub.database.write() as session:
        repositories.create(session, bob, "bob", "notes")
        value = accounts.new_token(session, accounts.account(session, "bob"), "test", "write")
    granted = http.get(ROUTE.replace("ann", "bob"), headers={"authorization": f"Bearer {value}"}).json()
    sender.headers = {"authorization": f"Bearer {granted['accessToken']}"}
    assert sender.post("shards", made).status_code == 422


def test_tokens_end_and_addresses_are_what_they_are(
    http: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(http, headers)
    good = xorb([b"abc"], RAW)
    assert sender.post("xorbs/default/abc", good).status_code == 422
    assert sender.post(f"xorbs/default/{NAME.upper()}", good).status_code == 422
    assert http.post(sender.address.replace("/v1", "") + "/v2/shards", headers=sender.headers).status_code == 404
    assert http.post("/v1/telemetry", json={}).status_code == 404
    assert http.get(ROUTE.replace("main", "other"), headers=headers).headers["x-error-code"] == "RevisionNotFound"
    wrong = f"{sender.address[:-32]}{secrets.token_hex(15)}/v1/xorbs/default/{NAME}"
    assert http.post(wrong, content=good, headers=sender.headers).status_code == 422
    assert http.post(f"{sender.address}/v1/xorbs/default/{NAME}", content=good, headers=headers).status_code == 403
    assert http.post(f"{sender.address}/v1/xorbs/default/{NAME}", content=good).status_code == 403
    monkeypatch.setattr("adapterhub.hub.server.protocol.xet.routes._SECONDS", -1)
    assert sender.post(f"xorbs/default/{NAME}", good).status_code == 403
