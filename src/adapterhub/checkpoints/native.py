"""The native format of adapters, heads, fusions and embeddings: a folder with a JSON manifest and safetensors files.

The name of a weights file holds the start of its own SHA-256, so a new version never overwrites the file of an old
one, and replacing the manifest is the single step that makes the new version the current one. A crash at any moment
leaves the old version whole, or the new one.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.compact import Storage, packed, storage, unpacked
from adapterhub.checkpoints.foreign import json_bytes
from adapterhub.checkpoints.tensors import check_fit_to_save, decode, encode
from adapterhub.errors import CheckpointError, CheckpointNotFoundError, CorruptCheckpointError
from adapterhub.files import leads_out, locked, make_folder, replace
from adapterhub.quantised import is_quantised

ADAPTER_MANIFEST = "adapter_config.json"
HEAD_MANIFEST = "head_config.json"
FUSION_MANIFEST = "fusion_config.json"
EMBEDDINGS_MANIFEST = "embeddings_config.json"
FORMAT = "adapterhub"
FORMAT_VERSION = 2  # that of manifests with quantised weights; all others are of version 1
_MANIFESTS = (ADAPTER_MANIFEST, HEAD_MANIFEST, FUSION_MANIFEST, EMBEDDINGS_MANIFEST)
_PARTS = ("adapter", "head", "fusion", "embeddings")
_PART = f"({'|'.join(_PARTS)})"
_OURS = re.compile(  # weights files, and what a crash leaves of any file
    rf"{_PART}\.[0-9a-f]{{8}}\.safetensors"
    rf"|\.({_PART}\.[0-9a-f]{{8}}\.safetensors|{_PART}_config\.json)\.[0-9a-f]{{8}}\.tmp"
)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Part:
    """One thing with weights: an adapter, a head, a fusion, embeddings. ``config`` is JSON-ready."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Manifest:
    """A manifest that has been read and checked, with the files that it names, which ``tensors`` checks."""

    folder: Path
    content: Mapping[str, Any]
    _files: Mapping[str, bytes | CheckpointError] = field(repr=False, compare=False)

    def has(self, kind: str) -> bool:
        """Whether there is a part of that kind (``"adapter"``, ``"head"``)."""
        return kind in self.content

    def config(self, kind: str) -> dict[str, Any]:
        """The configuration of a part."""
        return dict(self.content[kind]["config"])

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """The weights of a part, checked against the SHA-256 of the manifest; quantised ones as floats.

        Raises:
            CorruptCheckpointError: if the file is missing, outside the folder, altered, no safetensors file, or
                holds values that are not finite.
        """
        data, weights = self._files[kind], self.content[kind]["weights"]
        if isinstance(data, CheckpointError):
            raise data
        path = self.folder / weights["file"]
        if hashlib.sha256(data).hexdigest() != weights["sha256"]:
            raise CorruptCheckpointError(
                f"{path}: the file is truncated or altered: its SHA-256 is not that of the manifest. Copy it again."
            )
        tensors = decode(data, str(path))
        return unpacked(tensors, str(path)) if is_quantised(weights.get("dtype")) else tensors


def write(
    folder: str | os.PathLike[str],
    manifest: str,
    info: Mapping[str, Any],
    parts: Mapping[str, Part],
    dtype: Storage | None = None,
) -> Path:
    """Write ``parts`` (by kind) and a manifest of the given file name that holds ``info`` beside them.

    The folder is made if needed; other files in it are left alone. Nothing is written unless all of it can be. Values
    are stored as they are, or as ``dtype``.

    Raises:
        CheckpointError: if a tensor or a value of the manifest cannot be saved (tensors that share memory, values
            that are not finite), or the folder cannot be written to.
        ConfigError: for an unknown ``dtype``.
    """
    if dtype is not None:
        storage(dtype)
    folder = Path(folder)
    version = FORMAT_VERSION if is_quantised(dtype) else 1
    content: dict[str, Any] = {**info, "format": FORMAT, "format_version": version}
    files: dict[str, bytes] = {}
    for kind, part in parts.items():
        check_fit_to_save(part.tensors, f"the {kind}")
        data = encode(part.tensors if dtype is None else packed(part.tensors, dtype), f"the {kind}")
        digest = hashlib.sha256(data).hexdigest()
        name = f"{kind}.{digest[:8]}.safetensors"
        files[name] = data
        sizes = [tensor.numel() for tensor in part.tensors.values()]
        weights = {"file": name, "sha256": digest, "tensors": len(sizes), "parameters": sum(sizes)}
        weights |= {} if dtype is None else {"dtype": dtype}
        content[kind] = {"config": dict(part.config), "weights": weights}
    files[manifest] = json_bytes(content, "the manifest")  # the last one: replacing it is the commit
    try:
        make_folder(folder)
        with locked(folder):
            for name, data in files.items():
                replace(folder / name, data)
            _remove_stale(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} could not be written to: {error.strerror or error}") from error
    return folder


def read(folder: str | os.PathLike[str], manifest: str) -> Manifest:
    """Read a checkpoint; its weights are checked when they are asked for, and one that is lost is an error then.

    What is read is of one version, also if another process saves a new one meanwhile.

    Raises:
        CheckpointNotFoundError: if there is no such folder, or no manifest in it.
        CorruptCheckpointError: if the manifest is not a whole one of this format, or of a newer version of it.
    """
    folder = Path(folder)
    path = folder / manifest
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"{folder} is not a folder. Give the folder that save_adapter wrote.")
    while True:
        data = _read_manifest(path)
        content = _parse(path, data)
        files = {kind: _read_weights(folder, content[kind]["weights"]["file"]) for kind in _PARTS if kind in content}
        lost = any(isinstance(file, CheckpointError) for file in files.values())
        if not lost or _read_manifest(path) == data:  # else a new version came, and took the files of this one
            return Manifest(folder, content, files)


def look(folder: Path, manifest: str) -> dict[str, Any] | None:
    """What a manifest says, checked; of the weights that it names nothing is read. None for another library's.

    Raises:
        CheckpointNotFoundError, CorruptCheckpointError: as ``read``.
    """
    path = folder / manifest
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"{folder} is not a folder. Give the folder that save_adapter wrote.")
    content = _json(path, _read_manifest(path))
    if isinstance(content, dict) and "format" not in content:
        return None
    _check_content(path, content)
    return dict(content)


def weights_file(folder: Path, name: str) -> Path:
    """The path of a weights file that a manifest names.

    Raises:
        CorruptCheckpointError: if it is outside the folder, or none.
    """
    path = folder / name
    try:
        with suppress(OSError):  # whoever opens it says so
            path.lstat()
    except ValueError:  # a character that no file name can hold
        said = f"{folder}: the manifest names a weights file that cannot be one: {name!r}"
        raise CorruptCheckpointError(said) from None
    if leads_out(folder, name):
        raise CorruptCheckpointError(f"{folder}: the manifest names a weights file outside the folder: {name!r}")
    if path.exists() and not path.is_file():
        raise CorruptCheckpointError(f"{path}: the manifest names this as a weights file, and it is no file")
    return path


def _read_manifest(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        names = sorted(entry.name for entry in path.parent.iterdir())
        pickles = any(name.endswith(_PICKLES) for name in names)
        raise CheckpointNotFoundError(
            f"{path.parent} holds no {path.name}, but {', '.join(names[:8]) or 'nothing'}."
            + (" Pickles (.bin, .pt, ...) are not read." if pickles else "")
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}") from error


def _read_weights(folder: Path, name: str) -> bytes | CheckpointError:
    """The content of a file that a manifest names, or why there is none; it must lie in the folder, links resolved."""
    try:
        return weights_file(folder, name).read_bytes()
    except CorruptCheckpointError as error:
        return error
    except OSError as error:
        return CorruptCheckpointError(
            f"{folder / name}: the manifest names this file, and it could not be read ({error.strerror}). Copy it "
            "again."
        )


def _remove_stale(folder: Path) -> None:
    """Remove weights files of this format that no manifest in the folder names, and what crashes left."""
    named = set()
    for manifest in (folder / name for name in _MANIFESTS):
        try:
            content = _parse(manifest, _read_manifest(manifest))
        except CheckpointNotFoundError:
            continue
        except CheckpointError:
            return  # it may be of a newer version, and name any of them
        named |= {content[kind]["weights"]["file"] for kind in _PARTS if kind in content}
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in named:
            with suppress(OSError):  # one that stays does no harm, and the new version is saved
                path.unlink()


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    content = _json(path, data)
    _check_content(path, content)
    return dict(content)


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(f"{path} is not JSON: {error}. Copy it again.") from error


def _check_content(path: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise CorruptCheckpointError(f"{path} must hold a JSON object, and holds a {type(content).__name__}")
    if content.get("format") != FORMAT:
        if "peft_type" in content:
            raise CorruptCheckpointError(
                f"{path} is of the PEFT format, not of the native format of adapterhub: load it by model.load_adapter"
            )
        other = "the format of the adapters library" if "model_class" in content else "an unknown format"
        raise CorruptCheckpointError(
            f"{path} is of {other}, not of the native format of adapterhub, the one that is read"
        )
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise CorruptCheckpointError(f"{path}: format_version must be a positive number, and is {version!r}")
    if version > FORMAT_VERSION:
        raise CorruptCheckpointError(
            f"{path} is of format version {version}; this version reads up to {FORMAT_VERSION}. Upgrade adapterhub."
        )
    for key, form, word in (("name", str, "text"), ("base_model", dict, "an object"), ("meta", dict, "an object")):
        if key in content and type(content[key]) is not form:
            raise CorruptCheckpointError(f"{path}: {key!r} must be {word}, and is {content[key]!r}")
    parts = [kind for kind in _PARTS if kind in content]
    for kind in parts:
        if not _is_whole(content[kind]):
            raise CorruptCheckpointError(
                f"{path}: the entry {kind!r} lacks its config, or its weights' file and sha256"
            )
    if not parts:
        raise CorruptCheckpointError(f"{path} describes no adapter, head, fusion or embeddings")


def _is_whole(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("config"), dict)
        and isinstance(entry.get("weights"), dict)
        and all(isinstance(entry["weights"].get(key), str) for key in ("file", "sha256"))
    )
