"""The native format of adapters and heads: a folder with a JSON manifest and safetensors files.

The name of a weights file holds the start of its own SHA-256, so a new version never overwrites the file of an old
one, and replacing the manifest is the single step that makes the new version the current one. A crash at any moment
leaves the old version whole, or the new one.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from adapterhub.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    TensorMismatchError,
)

ADAPTER_MANIFEST = "adapter_config.json"
HEAD_MANIFEST = "head_config.json"
FORMAT = "adapterhub"
FORMAT_VERSION = 1
_PARTS = ("adapter", "head")
_LISTED = 10  # names of tensors in an error


@dataclass(frozen=True)
class Part:
    """One thing with weights: an adapter or a head. ``config`` is JSON-ready."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Manifest:
    """A manifest that has been read and checked; weights are read by ``part``."""

    folder: Path
    content: Mapping[str, Any]

    def has(self, kind: str) -> bool:
        """Whether there is a part of that kind (``"adapter"``, ``"head"``)."""
        return kind in self.content

    def config(self, kind: str) -> dict[str, Any]:
        """The configuration of a part."""
        return dict(self.content[kind]["config"])

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """The weights of a part, checked against the SHA-256 of the manifest.

        Raises:
            CorruptCheckpointError: if the file is missing, outside the folder, altered, no safetensors file, or
                holds values that are not finite.
        """
        weights = self.content[kind]["weights"]
        path = _inside(self.folder, weights["file"])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptCheckpointError(
                f"{path}: the manifest names this file, and it could not be read ({error.strerror}). Copy it again."
            ) from error
        if hashlib.sha256(data).hexdigest() != weights["sha256"]:
            raise CorruptCheckpointError(
                f"{path}: the file is truncated or altered: its SHA-256 is not that of the manifest. Copy it again."
            )
        try:
            tensors = load_safetensors(data)
        except SafetensorError as error:
            raise CorruptCheckpointError(f"{path} is not a safetensors file: {error}") from error
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CorruptCheckpointError(f"{path}: tensor {name} holds values that are not finite")
        return tensors


def write(folder: str | os.PathLike[str], manifest: str, info: Mapping[str, Any], parts: Mapping[str, Part]) -> Path:
    """Write ``parts`` (by kind) and a manifest of the given file name that holds ``info`` beside them.

    The folder is made if needed; other files in it are left alone.

    Raises:
        CheckpointError: if tensors of a part share memory, or the folder cannot be written to.
    """
    folder = Path(folder)
    content: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, **info}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, part in parts.items():
            content[kind] = {
                "config": dict(part.config),
                "weights": _write_weights(folder, kind, part.tensors),
            }
        _replace(folder / manifest, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
        _remove_stale(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} could not be written to: {error.strerror or error}") from error
    return folder


def read(folder: str | os.PathLike[str], manifest: str) -> Manifest:
    """Read a manifest; no weights yet.

    Raises:
        CheckpointNotFoundError: if there is no such folder, or no manifest in it.
        CorruptCheckpointError: if the manifest is not a whole one of this format, or of a newer version of it.
    """
    folder = Path(folder)
    path = folder / manifest
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"{folder} is not a folder. Give the folder that save_adapter wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise CheckpointNotFoundError(f"{folder} holds no {manifest}, but {found}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}") from error
    except ValueError as error:
        raise CorruptCheckpointError(f"{path} is not JSON: {error}. Copy it again.") from error
    _check_content(path, content)
    return Manifest(folder, content)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy ``tensors`` into the parameters and buffers of ``module``; nothing is changed unless all of them fit.

    Raises:
        TensorMismatchError: listing tensors that are missing, left over, or of another shape.
    """
    own = module.state_dict(keep_vars=True)
    problems = []
    for title, names in (
        ("missing from the checkpoint", [name for name in own if name not in tensors]),
        ("left over in the checkpoint", [name for name in tensors if name not in own]),
        (
            "of another shape",
            [
                f"{name} ({list(tensors[name].shape)} in the checkpoint, {list(own[name].shape)} here)"
                for name in own
                if name in tensors and tensors[name].shape != own[name].shape
            ],
        ),
    ):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            problems.append(f"{len(names)} {title}: {', '.join(names[:_LISTED])}{more}")
    if problems:
        raise TensorMismatchError(f"{what} does not fit this model. Tensors {'; '.join(problems)}.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _write_weights(folder: Path, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    _check_apart(kind, tensors)
    data = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"{kind}.{digest[:8]}.safetensors"
    _replace(folder / name, data)
    return {"file": name, "sha256": digest, "parameters": sum(tensor.numel() for tensor in tensors.values())}


def _check_apart(kind: str, tensors: Mapping[str, Tensor]) -> None:
    owners: dict[tuple[str, int], str] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            key = (str(tensor.device), tensor.untyped_storage().data_ptr())
            other = owners.setdefault(key, name)
            if other != name:
                raise CheckpointError(f"tensors {other} and {name} of the {kind} share memory; save one of them")


def _replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path`` in one step, on disk before this returns."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove_stale(folder: Path) -> None:
    """Remove weights files of this format that no manifest in the folder names."""
    named = set()
    for manifest in (ADAPTER_MANIFEST, HEAD_MANIFEST):
        try:
            content = read(folder, manifest).content
        except CheckpointError:
            continue  # none, or of another format
        named |= {content[kind]["weights"]["file"] for kind in _PARTS if kind in content}
    for path in folder.iterdir():
        if re.fullmatch(r"(adapter|head)\.[0-9a-f]{8}\.safetensors", path.name) and path.name not in named:
            path.unlink(missing_ok=True)


def _check_content(path: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise CorruptCheckpointError(f"{path} must hold a JSON object, and holds a {type(content).__name__}")
    if content.get("format") != FORMAT:
        other = (
            "the PEFT format"
            if "peft_type" in content
            else "the format of the adapters library"
            if "model_class" in content
            else "an unknown format"
        )
        raise CorruptCheckpointError(f"{path} is of {other}, not of the native format of adapterhub")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CorruptCheckpointError(
            f"{path} is of format version {version!r}; this version reads up to {FORMAT_VERSION}. Upgrade adapterhub."
        )
    parts = [kind for kind in _PARTS if kind in content]
    for kind in parts:
        entry = content[kind]
        whole = (
            isinstance(entry, dict)
            and isinstance(entry.get("config"), dict)
            and isinstance(entry.get("weights"), dict)
            and all(isinstance(entry["weights"].get(key), str) for key in ("file", "sha256"))
        )
        if not whole:
            raise CorruptCheckpointError(
                f"{path}: the entry {kind!r} lacks its config, or its weights' file and sha256"
            )
    if not parts:
        raise CorruptCheckpointError(f"{path} describes neither an adapter nor a head")


def _inside(folder: Path, name: str) -> Path:
    """The path of a file that a manifest names; it must lie in the folder itself, links resolved."""
    path = folder / name
    if Path(name).name != name or path.resolve().parent != folder.resolve():
        raise CorruptCheckpointError(f"{folder}: the manifest names a weights file outside the folder: {name!r}")
    return path
