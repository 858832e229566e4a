"""The stores do the same, in a folder and in a bucket; and a hub works over either."""

import hashlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hf_xet
import pytest

from adapterhub.hub.server import blobs, commits, pieces, repositories
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Piece
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs.collecting import collect
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.store import LocalStore, Store
from adapterhub.hub.server.store.s3 import S3Store
from hub.server import s3
from hub.server.conftest import person
from hub.server.running import start

MIB = 1 << 20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server that speaks like S3."""
    with s3.server() as made:
        yield made


@pytest.fixture
def options(address: str) -> dict[str, str]:
    """Of a new bucket, whose name is at the end of the endpoint."""
    name = f"bucket-{secrets.token_hex(4)}"
    return s3.new_bucket(address, name) | {"bucket": name}


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "blobs")
    options = request.getfixturevalue("options")
    return S3Store(f"s3://{options.pop('bucket')}/adapters", options)


def put(store: Store, folder: Path, data: bytes) -> str:
    """The SHA-256 of bytes that are put into a store."""
    path = folder / secrets.token_hex(4)
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(sha256, path)
    return sha256


@pytest.mark.parametrize("size", [0, 1, 300_000, 11 * MIB])
def test_what_is_put_is_there_in_whole_and_in_part(store: Store, tmp_path: Path, size: int) -> None:
    data = secrets.token_bytes(size)
    sha256 = put(store, tmp_path, data)
    assert store.exists(sha256)
    with store.open(sha256) as stream:
        assert stream.seek(0, 2) == size
        for start in (size // 2, 0):
            stream.seek(start)
            assert stream.read() == data[start:]
        stream.seek(size // 3)
        assert stream.read(7) == data[size // 3 :][:7]
    assert b"".join(store.read(sha256, 0, size)) == data
    assert b"".join(store.read(sha256, size // 3, size // 2)) == data[size // 3 :][: size // 2]
    assert put(store, tmp_path, data) == sha256  # again


def test_what_is_not_there(store: Store) -> None:
    none = "0" * 64
    assert not store.exists(none)
    with pytest.raises(FileNotFoundError):
        store.open(none)
    with pytest.raises(FileNotFoundError):
        list(store.read(none, 0, 1))
    store.delete(none)
    assert list(store.listing()) == []


def test_what_is_deleted_is_gone_and_the_rest_is_listed(store: Store, tmp_path: Path) -> None:
    first, second = put(store, tmp_path, b"first"), put(store, tmp_path, b"second")
    assert {sha256 for sha256, _ in store.listing()} == {first, second}
    assert all(abs(datetime.now(UTC) - since) < timedelta(minutes=1) for _, since in store.listing())
    store.delete(first)
    assert not store.exists(first)
    assert [sha256 for sha256, _ in store.listing()] == [second]


def test_a_bucket_gives_links_and_a_folder_files(tmp_path: Path, options: dict[str, str]) -> None:
    bucket, folder = S3Store(f"s3://{options.pop('bucket')}", options), LocalStore(tmp_path / "blobs")
    for store in (bucket, folder):
        sha256 = put(store, tmp_path, b"bytes")
        path, link = store.path(sha256), store.link(sha256, "a.txt", 60)
        if store is folder:
            assert link is None and path is not None and path.read_bytes() == b"bytes"
        else:
            assert path is None and link is not None and urllib.request.urlopen(link).read() == b"bytes"


@pytest.fixture
def hub(tmp_path: Path, options: dict[str, str]) -> Iterator[Hub]:
    """A hub whose files are in a bucket."""
    storage = f"s3://{options.pop('bucket')}/adapters"
    made = Hub.open(Settings(directory=tmp_path / "hub", storage=storage, storage_options=options))
    yield made
    made.close()


def test_files_go_through_a_bucket_and_out_of_it_again(hub: Hub) -> None:
    """Published, in parts, read, and collected when they are of no use."""
    ann = person(hub, "ann")
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    for name, part in (("1", b"one "), ("2", b"two")):
        with blobs.arriving(hub, [part], "a part") as file:
            pieces.keep(hub, ann, "t", name, file)
    with pieces.joined(hub, ann, "t", ["1", "2"], 7) as file:
        blobs.keep(hub, ann, file)
    sha256 = hashlib.sha256(b"one two").hexdigest()
    commits.publish(hub, ann, "ann", "notes", "main", [Put("a.txt", sha256)], Message("Put"))
    pieces.forget(hub, ann, "t")
    assert len(list(hub.store.listing())) == 3
    done = collect(hub, timedelta(seconds=-1))  # its clock counts whole seconds
    assert (done.blobs, done.freed) == (2, 7)
    assert hub.store.open(sha256).read() == b"one two"
    assert [one for one, _ in hub.store.listing()] == [sha256]


def test_a_served_hub_takes_by_xet_and_gives_by_links(hub: Hub) -> None:
    """Two workers share the database and the bucket, and nothing else."""
    storage = {"ADAPTERHUB_STORAGE": hub.settings.storage}
    storage["ADAPTERHUB_STORAGE_OPTIONS"] = json.dumps(hub.settings.storage_options)
    ann = person(hub, "ann")
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    running = start(hub.settings.directory, "--workers", "2", **storage)
    try:
        data = b"All that is written here is written once. " * 20_000
        headers = {"authorization": f"Bearer {running.token('ann')}"}
        url = f"{running.url}/api/models/ann/notes/xet-write-token/main"
        upload = hf_xet.XetSession().new_upload_commit(token_refresh_url=url, token_refresh_headers=headers)
        sent = upload.start_upload_bytes(data, sha256=hf_xet.COMPUTE_SHA256, name="a")
        upload.wait_to_finish()
        sha256 = sent.result().xet_info.sha256
        with hub.database.read() as session:
            assert session.query(Piece).count() == 1
        commits.publish(hub, ann, "ann", "notes", "main", [Put("a.txt", sha256)], Message("Put"))
        with urllib.request.urlopen(f"{running.url}/ann/notes/resolve/main/a.txt") as answer:
            assert answer.read() == data
            assert answer.url.startswith(hub.settings.storage_options["endpoint"])
    finally:
        running.stop()
