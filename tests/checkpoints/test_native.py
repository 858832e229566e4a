import errno
import hashlib
import json
import os
import pickle
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

import adapterhub
import tiny
from adapterhub import files
from adapterhub.checkpoints import ADAPTER_MANIFEST, HEAD_MANIFEST, Part, read, write
from adapterhub.errors import CheckpointError, CheckpointNotFoundError, CorruptCheckpointError
from adapterhub.files import locked

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def parts(value: float, size: int = 5) -> dict[str, Part]:
    """An adapter and a head whose configuration and tensors all hold ``value``."""
    weights = {f"layers.{n}.weight": torch.full((size, 3), float(value)) for n in range(3)}
    return {
        "adapter": Part({"value": value}, weights),
        "head": Part({"value": value}, {"bias": torch.full((2,), value)}),
    }


def save(folder: Path, value: float) -> None:
    write(folder, ADAPTER_MANIFEST, {"name": "a", "value": value}, parts(value))


def load(folder: Path) -> float:
    """The value of the checkpoint, after a check that all of it is of one version."""
    found = read(folder, ADAPTER_MANIFEST)
    values = {found.content["value"], found.config("adapter")["value"], found.config("head")["value"]}
    for kind in ("adapter", "head"):
        values |= {value for tensor in found.tensors(kind).values() for value in tensor.unique().tolist()}
    (value,) = values
    return value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(action: Callable[[], object]) -> int:
    """The exit code of ``action`` in a forked process: 3 for a CheckpointError, minus the signal that killed it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            action()
            code = 0
        except CheckpointError:
            code = 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# What is written


def test_the_manifest_says_all_of_its_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "new" / "one", ADAPTER_MANIFEST, {"name": "a", "meta": {"ü": [1, None]}}, parts(2.0))
    assert folder == tmp_path / "new" / "one"
    text = (folder / ADAPTER_MANIFEST).read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert (content["format"], content["format_version"], content["name"]) == ("adapterhub", 1, "a")
    assert content["meta"] == {"ü": [1, None]}
    assert set(names(folder)) == {ADAPTER_MANIFEST, *(content[kind]["weights"]["file"] for kind in ("adapter", "head"))}
    for kind, tensors, numbers in (("adapter", 3, 45), ("head", 1, 2)):
        weights = content[kind]["weights"]
        digest = hashlib.sha256((folder / weights["file"]).read_bytes()).hexdigest()
        assert weights == {
            "file": f"{kind}.{digest[:8]}.safetensors",
            "sha256": digest,
            "tensors": tensors,
            "parameters": numbers,
        }


def test_parts_come_back(tmp_path: Path) -> None:
    made = parts(2.0)
    write(tmp_path, ADAPTER_MANIFEST, {}, made)
    found = read(tmp_path, ADAPTER_MANIFEST)
    for kind, part in made.items():
        assert found.has(kind) and found.config(kind) == part.config
        tensors = found.tensors(kind)
        assert set(tensors) == set(part.tensors)
        assert all(torch.equal(tensors[name], tensor) for name, tensor in part.tensors.items())
    write(tmp_path, HEAD_MANIFEST, {}, {"head": made["head"]})
    alone = read(tmp_path, HEAD_MANIFEST)
    assert alone.has("head") and not alone.has("adapter")


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, 1.0)
    assert names(tmp_path / "one") == names(tmp_path / "two")
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(("family", "layers"), [("bert", 24), ("bart", 12)])
@pytest.mark.parametrize("config", ["seq_bn", "double_seq_bn", "houlsby_2019"])
def test_size_is_four_bytes_a_parameter_and_ten_thousand(tmp_path: Path, family: str, layers: int, config: str) -> None:
    depth = {
        "bert": {"num_hidden_layers": layers},
        "bart": {"encoder_layers": layers, "decoder_layers": layers},
    }[family]
    model = adapterhub.init(tiny.model(family, **depth))
    model.add_adapter("a", config=f"{config}[reduction_factor=4]")
    model.save_adapter(tmp_path, "a", meta_dict={"task": "sst-2"})
    numbers = sum(parameter.numel() for parameter in model.adapters["a"].parameters())
    size = sum((tmp_path / name).stat().st_size for name in names(tmp_path))
    assert 4 * numbers < size <= 4 * numbers + 10_000


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path, 1.0)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


# What is removed, and what stays


def test_a_new_version_replaces_the_files_of_the_old_one_and_no_others(tmp_path: Path) -> None:
    write(tmp_path, HEAD_MANIFEST, {}, {"head": parts(7.0)["head"]})
    others = [
        "README.md",
        "pytorch_adapter.bin",
        "adapter_model.safetensors",
        "adapter.safetensors",
        "adapter.0123456.safetensors",
        "adapter.01234567.safetensors.bak",
        "pruned.01234567.safetensors",
        ".adapter_config.json.tmp",
        ".other.json.01234567.tmp",
    ]
    ours = ["adapter.01234567.safetensors", "head.89abcdef.safetensors", ".adapter_config.json.01234567.tmp"]
    ours += [".head.01234567.safetensors.89abcdef.tmp", "fusion.01234567.safetensors"]
    for name in others + ours:
        (tmp_path / name).write_text(name)
    (tmp_path / "adapter.00000000.safetensors").mkdir()  # a folder is none of ours
    save(tmp_path, 1.0)
    old = set(names(tmp_path))
    save(tmp_path, 2.0)
    new = set(names(tmp_path))
    assert load(tmp_path) == 2.0
    assert read(tmp_path, HEAD_MANIFEST).tensors("head")["bias"].tolist() == [7.0, 7.0]
    assert {*others, "adapter.00000000.safetensors"} < new and not new & set(ours)
    assert all((tmp_path / name).read_text() == name for name in others)
    assert len(old) == len(new) == len(others) + 1 + 3 + 2  # a folder, the adapter with its head, the head alone


def test_a_manifest_that_cannot_be_read_keeps_every_weights_file(tmp_path: Path) -> None:
    write(tmp_path, HEAD_MANIFEST, {}, {"head": parts(7.0)["head"]})
    content = json.loads((tmp_path / HEAD_MANIFEST).read_text())
    (tmp_path / HEAD_MANIFEST).write_text(json.dumps(content | {"format_version": 2}))
    save(tmp_path, 1.0)
    save(tmp_path, 2.0)
    assert load(tmp_path) == 2.0
    assert (tmp_path / content["head"]["weights"]["file"]).exists()


def test_a_stale_file_that_cannot_be_removed_does_not_fail_the_save(tmp_path: Path, monkeypatch: Any) -> None:
    save(tmp_path, 1.0)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(Path, "unlink", refuse)
    save(tmp_path, 2.0)
    assert load(tmp_path) == 2.0


# What is refused before anything is written


@pytest.mark.parametrize(
    ("message", "info", "made"),
    [
        ("share memory", {}, {"adapter": Part({}, dict.fromkeys("ab", torch.ones(2)))}),
        ("the head: tensor b holds", {}, {**parts(1.0), "head": Part({}, {"b": torch.tensor(torch.nan)})}),
        ("JSON", {"meta": {"accuracy": torch.tensor(0.5)}}, parts(2.0)),
        ("JSON", {"meta": {"accuracy": float("nan")}}, parts(2.0)),
        ("JSON", {"meta": {1: 1, "a": 1}}, parts(2.0)),
        ("JSON", {}, {"adapter": Part({"path": Path("x")}, {})}),
    ],
)
def test_a_refused_save_leaves_no_trace(tmp_path: Path, message: str, info: Any, made: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path / "new", ADAPTER_MANIFEST, info, made)
    assert not (tmp_path / "new").exists()
    save(tmp_path, 1.0)
    before = names(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path, ADAPTER_MANIFEST, info, made)
    assert load(tmp_path) == 1.0 and names(tmp_path) == before


def test_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(CheckpointError, match="could not be written to"):
            save(place, 1.0)


# Crashes: the old version whole, or the new one


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], list[str]]:
    """Lets the n-th step of a save (from 0) raise an error; returns the list in which steps are noted."""

    def arm(at: int, error: BaseException) -> list[str]:
        steps: list[str] = []

        def step(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(*args: Any, **kwargs: Any) -> Any:
                steps.append(name)
                if len(steps) - 1 == at:
                    raise error
                return call(*args, **kwargs)

            return stepped

        for owner, name in ((os, "fsync"), (Path, "mkdir"), (Path, "open"), (Path, "replace"), (Path, "iterdir")):
            monkeypatch.setattr(owner, name, step(name, getattr(owner, name)))
        return steps

    return arm


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_any_step(tmp_path: Path, monkeypatch: Any, interrupted: Any, error: BaseException) -> None:
    outcomes = []
    for at in range(100):
        folder = tmp_path / str(at)
        save(folder, 1.0)
        steps = interrupted(at, error)
        try:
            save(folder, 2.0)
        except (CheckpointError, KeyboardInterrupt) as caught:
            assert isinstance(caught, KeyboardInterrupt) or "No space left on device" in str(caught)
        monkeypatch.undo()
        outcomes.append(load(folder))
        assert not list(folder.glob(".*"))  # nothing half-written stays
        if len(steps) <= at:
            break
        save(folder, 3.0)
        assert load(folder) == 3.0 and len(names(folder)) == 3
    assert len(outcomes) == len(steps) + 1 > 10  # every step had its turn
    assert outcomes == sorted(outcomes) and {*outcomes} == {1.0, 2.0}
    assert outcomes.count(2.0) >= 3  # failures after the commit leave the new version


@forks
def test_a_death_at_any_step(tmp_path: Path) -> None:
    """The process ends at once, without a chance to tidy up."""
    outcomes = []
    for at in range(100):
        folder = tmp_path / str(at)
        save(folder, 1.0)

        def dying(folder: Path = folder, at: int = at) -> None:
            seen = iter(range(1000))
            watched = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir", "fcntl.flock"}
            sys.addaudithook(lambda event, _: os._exit(9) if event in watched and next(seen) == at else None)
            save(folder, 2.0)

        code = in_child(dying)
        assert code in (0, 9)
        outcomes.append(load(folder))
        if code == 0:
            break
        save(folder, 3.0)
        assert load(folder) == 3.0 and len(names(folder)) == 3  # with what the dead one left removed
    assert len(outcomes) > 10
    assert outcomes == sorted(outcomes) and {*outcomes} == {1.0, 2.0}


@forks
@pytest.mark.parametrize("ignored", [True, False], ids=["error", "killed"])
def test_no_room_in_the_middle_of_a_file(tmp_path: Path, ignored: bool) -> None:
    """The system lets files grow to so many bytes, and refuses or kills a process that writes more."""

    def limited(limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if ignored else signal.SIG_DFL)
        save(tmp_path, 2.0)

    save(tmp_path, 1.0)
    largest = max((tmp_path / name).stat().st_size for name in names(tmp_path))
    for limit in (0, 1, 100, 200, largest - 1):
        assert in_child(lambda limit=limit: limited(limit)) == (3 if ignored else -signal.SIGXFSZ)
        assert load(tmp_path) == 1.0
        assert bool(list(tmp_path.glob(".*.tmp"))) == (not ignored)
    assert in_child(lambda: limited(largest)) == 0
    assert load(tmp_path) == 2.0 and len(names(tmp_path)) == 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not say what a descriptor is of")
def test_everything_is_on_disk_before_the_manifest_names_it(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "above" / "here"
    events: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        events.append(("sync", path.name.split(".")[1] if path.name.startswith(".") else path.name))
        sync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        events.append(("replace", target.name.split(".")[0]))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    save(folder, 1.0)
    assert events[:2] == [("sync", "above"), ("sync", tmp_path.name)]  # the new folders themselves
    assert events[2:] == [
        event
        for name in ("adapter", "head", "adapter_config")
        for event in (("sync", name), ("replace", name), ("sync", "here"))
    ]


def test_a_drive_that_does_not_sync_folders(tmp_path: Path, monkeypatch: Any) -> None:
    sync = os.fsync

    def partly(code: int) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(code, os.strerror(code))
            sync(handle)

        return fsync

    monkeypatch.setattr(os, "fsync", partly(errno.EINVAL))
    save(tmp_path, 1.0)
    assert load(tmp_path) == 1.0
    monkeypatch.setattr(os, "fsync", partly(errno.EIO))
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(tmp_path, 2.0)


# Several at once


@forks
@pytest.mark.parametrize("writers", [1, 2])
def test_readers_see_whole_versions_while_others_write(tmp_path: Path, writers: int) -> None:
    save(tmp_path, 0.0)
    done = tmp_path / "done"

    def reading() -> None:
        last, rounds = 0.0, 0
        while not (finished := done.exists()) or rounds < 5:
            value = load(tmp_path)
            assert value >= last or writers > 1
            last, rounds = value, rounds + 1
            assert rounds < 5 or not finished or value >= 50.0

    def writing() -> None:
        for value in range(1, 51):
            save(tmp_path, float(value))

    children = []
    for action in [reading] * 2 + [writing] * writers:
        child = os.fork()
        if not child:
            code = 1
            try:
                action()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[2:]]
    done.touch()
    codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[:2]]
    assert codes == [0] * len(children)
    assert load(tmp_path) == 50.0
    assert len(names(tmp_path)) == 3 + 1


def test_what_was_read_stays_when_a_new_version_comes(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    old = read(tmp_path, ADAPTER_MANIFEST)
    save(tmp_path, 2.0)
    assert old.config("adapter")["value"] == 1.0
    assert old.tensors("adapter")["layers.0.weight"].unique().tolist() == [1.0]


def test_a_version_that_goes_while_it_is_read_is_read_anew(tmp_path: Path, monkeypatch: Any) -> None:
    save(tmp_path, 1.0)
    read_bytes = Path.read_bytes

    def slow(path: Path) -> bytes:
        data = read_bytes(path)
        if path.name == ADAPTER_MANIFEST:
            monkeypatch.setattr(Path, "read_bytes", read_bytes)
            save(tmp_path, 2.0)  # another process is faster
        return data

    monkeypatch.setattr(Path, "read_bytes", slow)
    assert load(tmp_path) == 2.0


@pytest.mark.skipif(files.fcntl is None, reason="this system does not lock folders")
def test_writers_wait_for_one_another(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    second = threading.Thread(target=save, args=(tmp_path, 2.0))
    with locked(tmp_path):
        second.start()
        second.join(0.3)
        assert second.is_alive() and load(tmp_path) == 1.0
    second.join()
    assert load(tmp_path) == 2.0


def test_saving_without_locks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    save(tmp_path, 1.0)
    save(tmp_path, 2.0)
    assert load(tmp_path) == 2.0 and len(names(tmp_path)) == 3


# What is refused on reading

Spoil = Callable[[Path, dict[str, Any]], None]


def spoiled(folder: Path, spoil: Spoil) -> None:
    """Save a checkpoint, and change its files, or its manifest, by ``spoil``."""
    save(folder, 1.0)
    path = folder / ADAPTER_MANIFEST
    content = json.loads(path.read_text())
    before = json.dumps(content)
    spoil(folder, content)
    if json.dumps(content) != before:
        path.write_text(json.dumps(content))


def manifest(data: bytes) -> Spoil:
    return lambda folder, _: (folder / ADAPTER_MANIFEST).write_bytes(data) and None


def without(*path: str) -> Spoil:
    def spoil(_: Path, content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return spoil


def put(value: Any, *path: str) -> Spoil:
    def spoil(_: Path, content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("message", "spoil"),
    [
        ("is not JSON", manifest(b"")),
        ("is not JSON", manifest(b'{"format": "adapterhub", "format_ver')),
        ("is not JSON", manifest(b"\xff\xfe\xfd")),
        ("is not JSON", manifest(b"[" * 1_000_000)),
        ("must hold a JSON object, and holds a list", manifest(b"[1]")),
        ("must hold a JSON object, and holds a NoneType", manifest(b"null")),
        ("is of an unknown format", manifest(b"{}")),
        ("is of an unknown format", put(["adapterhub"], "format")),
        ("is of the PEFT format, not of the native", manifest(b'{"peft_type": "LORA", "r": 8}')),
        (
            "is of the format of the adapters library, not of the native",
            manifest(b'{"config": {"architecture": null}, "model_class": "BertAdapterModel", "name": "sst-2"}'),
        ),
        ("format version 3; .* reads up to 2. Upgrade adapterhub", put(3, "format_version")),
        ("format_version must be a positive number, and is '1'", put("1", "format_version")),
        ("format_version must be a positive number, and is True", put(True, "format_version")),
        ("format_version must be a positive number, and is 0", put(0, "format_version")),
        ("format_version must be a positive number, and is None", without("format_version")),
        ("'name' must be text, and is 3", put(3, "name")),
        ("'base_model' must be an object, and is 'roberta-base'", put("roberta-base", "base_model")),
        ("'meta' must be an object, and is None", put(None, "meta")),
        ("describes no adapter, head, fusion", manifest(b'{"format": "adapterhub", "format_version": 1}')),
        ("'adapter' lacks its config", without("adapter", "config")),
        ("'adapter' lacks its config", put([1], "adapter", "config")),
        ("'adapter' lacks its config", put("x", "adapter")),
        ("'head' lacks its config", without("head", "weights")),
        ("'head' lacks its config", put({}, "head", "weights")),
        ("'adapter' lacks its config", put(1, "adapter", "weights", "file")),
        ("'adapter' lacks its config", put(None, "adapter", "weights", "sha256")),
    ],
)  # fmt: skip
def test_a_manifest_that_is_refused(tmp_path: Path, message: str, spoil: Spoil) -> None:
    spoiled(tmp_path, spoil)
    with pytest.raises(CorruptCheckpointError, match=f"{ADAPTER_MANIFEST}.*{message}"):
        read(tmp_path, ADAPTER_MANIFEST)


def weights_file(folder: Path) -> Path:
    return next(folder.glob("adapter.*.safetensors"))


def change(edit: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder, _: weights_file(folder).write_bytes(edit(weights_file(folder).read_bytes())) and None


def signed(tensors: dict[str, Tensor] | bytes) -> Spoil:
    """Other weights, with the digest that the manifest should have for them."""

    def spoil(folder: Path, content: dict[str, Any]) -> None:
        data = tensors if isinstance(tensors, bytes) else save_safetensors(tensors)
        weights_file(folder).write_bytes(data)
        content["adapter"]["weights"]["sha256"] = hashlib.sha256(data).hexdigest()

    return spoil


def moved_outside(folder: Path, content: dict[str, Any]) -> None:
    """The very file, with the right digest, but outside; and a link to it, or its path, in the manifest."""
    weights_file(folder).rename(folder.parent / "outside.safetensors")


def linked(folder: Path, content: dict[str, Any]) -> None:
    target = weights_file(folder)
    moved_outside(folder, content)
    target.symlink_to(folder.parent / "outside.safetensors")


def named(name: str) -> Spoil:
    def spoil(folder: Path, content: dict[str, Any]) -> None:
        moved_outside(folder, content)
        content["adapter"]["weights"]["file"] = name.format(parent=folder.parent)

    return spoil


def as_folder(folder: Path, _: dict[str, Any]) -> None:
    path = weights_file(folder)
    path.unlink()
    path.mkdir()


def as_pipe(folder: Path, _: dict[str, Any]) -> None:
    path = weights_file(folder)
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("message", "spoil"),
    [
        ("could not be read .No such file", lambda folder, _: weights_file(folder).unlink()),
        ("truncated or altered", change(lambda data: data[:-1])),
        ("truncated or altered", change(lambda data: b"")),
        ("truncated or altered", change(lambda data: data + b"\0")),
        ("truncated or altered", change(lambda data: data[:-1] + bytes([data[-1] ^ 1]))),
        ("truncated or altered", put("0" * 64, "adapter", "weights", "sha256")),
        ("not a whole safetensors file", signed(b"\x80\x04K\x01.")),
        ("tensor b holds values that are not finite", signed({"a": torch.ones(1), "b": torch.tensor([torch.nan])})),
        ("outside the folder: '../outside", named("../outside.safetensors")),
        ("outside the folder: '/.*outside", named("{parent}/outside.safetensors")),
        ("outside the folder: 'a/../../outside", named("a/../../outside.safetensors")),
        ("outside the folder: '..'", named("..")),
        ("outside the folder: '.'", named(".")),
        ("outside the folder: ''", named("")),
        ("outside the folder: 'adapter", linked),
        (r"cannot be one: 'a\\x00b'", named("a\0b")),
        ("could not be read .File name too long", named("n" * 300)),
        ("it is no file", as_folder),
        ("it is no file", as_pipe),
    ],
)
def test_weights_that_are_refused(tmp_path: Path, message: str, spoil: Spoil) -> None:
    folder = tmp_path / "adapter"
    spoiled(folder, spoil)
    found = read(folder, ADAPTER_MANIFEST)
    with pytest.raises(CorruptCheckpointError, match=f"{folder}.*{message}"):
        found.tensors("adapter")
    assert found.tensors("head")["bias"].tolist() == [1.0, 1.0]  # the other part can be had


def test_links_within_the_folder_and_to_the_folder_are_fine(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save(folder, 1.0)
    (tmp_path / "link").symlink_to(folder)
    assert load(tmp_path / "link") == 1.0
    path = weights_file(folder)
    path.rename(folder / "weights")
    path.symlink_to("weights")
    assert load(folder) == 1.0


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"nothing is not a folder.*save_adapter"):
        read(tmp_path / "nothing", ADAPTER_MANIFEST)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointNotFoundError, match="file is not a folder"):
        read(tmp_path / "file", ADAPTER_MANIFEST)
    (tmp_path / "file").unlink()
    with pytest.raises(CheckpointNotFoundError, match=f"holds no {ADAPTER_MANIFEST}, but nothing"):
        read(tmp_path, ADAPTER_MANIFEST)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CheckpointNotFoundError, match=r"but notes.txt\.$"):
        read(tmp_path, ADAPTER_MANIFEST)
    (tmp_path / "pytorch_adapter.bin").write_text("")
    with pytest.raises(CheckpointNotFoundError, match=r"but notes.txt, pytorch_adapter.bin\. Pickles .* are not read"):
        read(tmp_path, ADAPTER_MANIFEST)
    (tmp_path / ADAPTER_MANIFEST).mkdir()
    with pytest.raises(CheckpointError, match="could not be read: Is a directory"):
        read(tmp_path, ADAPTER_MANIFEST)


@forks
def test_no_pickle_is_opened_and_no_code_is_run(tmp_path: Path) -> None:
    """A pickle in the place of the weights is not even looked at by the unpickler."""
    spoiled(tmp_path, signed(pickle.dumps({"weight": print})))
    pickle.loads(weights_file(tmp_path).read_bytes())  # which would find it good

    def reading() -> None:
        sys.addaudithook(lambda event, _: os._exit(9) if event in ("pickle.find_class", "exec", "compile") else None)
        with pytest.raises(CorruptCheckpointError):
            read(tmp_path, ADAPTER_MANIFEST).tensors("adapter")

    assert in_child(reading) == 0
