import hashlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from adapterhub import files
from adapterhub.errors import CorruptCheckpointError
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.lock import LOCK_FILE, Lock, LockedAdapter, LockedFile, file_of, pin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = {"adapter_config.json": b"{}", "sub/adapter.safetensors": bytes(range(256)) * 9}
ADAPTER = LockedAdapter(
    "https://hub.example.org",
    RepositoryId("ukp", "sst-2"),
    COMMIT,
    {name: LockedFile(hashlib.sha256(data).hexdigest(), len(data)) for name, data in DATA.items()},
)
NAMES = ("sentiment/sst-2@ukp", "@me/name", f"lang/de@ukp@{COMMIT}", "https://hub.example.org/me/name/tree/v1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in DATA.items():
        (tmp_path / "adapter" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "adapter" / name).write_bytes(data)
    return tmp_path / "adapter"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "project" / LOCK_FILE
    assert Lock.read(path) == Lock()
    lock = Lock(dict.fromkeys(NAMES, ADAPTER))
    lock.write(path)
    assert Lock.read(path) == lock
    first = path.read_bytes()
    Lock(dict.fromkeys(reversed(NAMES), ADAPTER)).write(path)
    assert path.read_bytes() == first and first.endswith(b"}\n")  # versions of it can be compared


def test_one_is_locked_beside_the_others(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    for name in NAMES:
        pin(path, name, ADAPTER)
    other = LockedAdapter("https://other", RepositoryId("a", "b"), COMMIT[::-1], {})
    pin(path, NAMES[0], other)
    assert Lock.read(path).adapters == dict.fromkeys(NAMES, ADAPTER) | {NAMES[0]: other}


def _pin_many(path: Path, who: int) -> None:
    for number in range(10):
        pin(path, f"me/adapter-{who}-{number}", ADAPTER)


def test_what_several_processes_lock_is_all_there(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_pin_many, args=(tmp_path / LOCK_FILE, who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(Lock.read(tmp_path / LOCK_FILE).adapters) == 30


def test_a_crash_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOCK_FILE
    pin(path, NAMES[0], ADAPTER)
    before = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        pin(path, NAMES[1], ADAPTER)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [LOCK_FILE]


def test_files_are_checked_to_the_byte(folder: Path) -> None:
    ADAPTER.verify(folder)
    assert file_of(folder / "adapter_config.json") == ADAPTER.files["adapter_config.json"]
    weights = folder / "sub/adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptCheckpointError, match=r"sub/adapter.safetensors has 2304 bytes .* Download it again"):
        ADAPTER.verify(folder)
    weights.unlink()
    with pytest.raises(CorruptCheckpointError, match=f"is not ukp/sst-2 at {COMMIT} .*safetensors is missing"):
        ADAPTER.verify(folder)


def test_a_file_that_is_left_over_is_refused(folder: Path) -> None:
    (folder / "head_config.json").write_text("{}")
    with pytest.raises(CorruptCheckpointError, match=r"head_config.json is in no commit that is locked"):
        ADAPTER.verify(folder)


def test_links_as_in_a_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    blob = (folder / "adapter_config.json").rename(tmp_path / "blob")
    (folder / "adapter_config.json").symlink_to(blob)
    ADAPTER.verify(folder)


def changed(**changes: Any) -> dict:
    one = {"hub": "https://x", "repository": "a/b", "commit": COMMIT, "files": {}}
    return {"version": 1, "adapters": {"a/b": one | changes}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<<<<<<< HEAD",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": 2, "adapters": {}}',
        b'{"version": 1, "adapters": []}',
        b"[" * 100_000,
        changed(commit="main"),
        changed(commit=None),
        changed(repository="b"),
        changed(hub=3),
        changed(files={"../x": {"sha256": "0" * 64, "size": 1}}),
        changed(files={"/x": {"sha256": "0" * 64, "size": 1}}),
        changed(files={"a\\b": {"sha256": "0" * 64, "size": 1}}),
        changed(files={"x": {"sha256": "0" * 63, "size": 1}}),
        changed(files={"x": {"sha256": "0" * 64, "size": "1"}}),
        changed(files={"x": {"size": 1}}),
        {"version": 1, "adapters": {"no name": {}}},
    ],
)
def test_what_is_no_lock_is_refused_and_stays(content: bytes | dict, tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    before = path.read_bytes()
    with pytest.raises(CorruptCheckpointError, match=LOCK_FILE):
        pin(path, "a/b", ADAPTER)
    assert path.read_bytes() == before
    path.write_text(json.dumps(changed()))
    assert Lock.read(path).adapters["a/b"].commit == COMMIT
