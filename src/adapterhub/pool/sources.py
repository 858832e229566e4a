"""Where the values of registered adapters come from: files of our own, mapped, or what other libraries wrote."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterhub.checkpoints import ADAPTER_MANIFEST
from adapterhub.checkpoints.compact import unpacked
from adapterhub.checkpoints.mapped import Header, Headers, mapped
from adapterhub.checkpoints.native import look, weights_file
from adapterhub.errors import CheckpointError, CheckpointNotFoundError
from adapterhub.quantised import is_quantised
from adapterhub.saving import foreign_loading
from adapterhub.saving.native import LoadOptions

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

ADAPTER, HEAD = "adapter", "head"
Values = Mapping[str, Mapping[str, Tensor]]  # of each part (the adapter, its head), by the names of its tensors


class Source(ABC):
    """The files of one adapter; ``size`` is the bytes of its values."""

    folder: Path
    size: int

    @abstractmethod
    def read(self) -> Values:
        """The values of its parts.

        Raises:
            CheckpointError: if the files are gone, or are not what they were.
        """


@dataclass(frozen=True)
class Found:
    """What a folder holds: parts with their configurations, and files of weights, or forms of tensors on no device.

    ``base`` is what it says of its base model.
    """

    name: str
    source: Source
    configs: Mapping[str, Mapping[str, Any]]
    stored: "Mapping[str, WeightsFile | Mapping[str, Tensor]]"
    base: Mapping[str, Any] | None
    is_native: bool

    def forms_of(self, part: str) -> Mapping[str, Tensor]:
        """The tensors of a part by name: shapes and types alone."""
        found = self.stored[part]
        return found.forms() if isinstance(found, WeightsFile) else found

    def alike(self, part: str) -> Any:
        """What is one object for parts whose tensors have the same forms."""
        found = self.stored[part]
        return found.header if isinstance(found, WeightsFile) else found


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights, with what its header and the manifest say of it."""

    path: Path
    header: Header
    digest: str
    quantised: bool

    def forms(self) -> Mapping[str, Tensor]:
        """Its tensors by name, on no device."""
        forms = self.header.forms(str(self.path))
        return unpacked(forms, str(self.path)) if self.quantised else forms

    def read(self) -> Mapping[str, Tensor]:
        """Its tensors by name: mapped, or made of what is mapped."""
        tensors = mapped(self.path, self.header, self.digest)
        return unpacked(tensors, str(self.path)) if self.quantised else tensors


@dataclass(frozen=True)
class NativeSource(Source):
    """A folder of our own format."""

    folder: Path
    files: Mapping[str, WeightsFile]

    @property
    def size(self) -> int:  # type: ignore[override]
        return sum(file.header.size for file in self.files.values())

    def read(self) -> Values:
        try:
            return {part: file.read() for part, file in self.files.items()}
        except CheckpointError as error:
            raise type(error)(f"{error}. It changed since the adapter was registered: register it again.") from error


@dataclass(frozen=True)
class ForeignSource(Source):
    """A folder that another library wrote, which is read and converted each time."""

    model: "AdapterMixin"
    folder: Path
    size: int
    options: LoadOptions

    def read(self) -> Values:
        found = foreign_loading.read_parts(self.model, self.folder, self.options)
        if found is None:
            raise CheckpointNotFoundError(f"{self.folder} holds no adapter any more: register it again")
        return {kind: part.tensors for kind, part in found[1].items()}


def find(model: "AdapterMixin", folder: Path, headers: Headers, options: LoadOptions) -> Found:
    """What a folder holds; of our own format the headers of weights alone are read.

    Raises:
        CheckpointNotFoundError: if it holds no adapter.
        CorruptCheckpointError: if a file is truncated or malformed.
    """
    if (content := look(folder, ADAPTER_MANIFEST)) is not None:
        return _native(folder, content, headers, options.with_head)
    if (found := foreign_loading.read_parts(model, folder, options)) is not None:
        return _foreign(model, folder, found, options)
    raise CheckpointNotFoundError(f"{folder} holds no adapter of a format that is known")


def _native(folder: Path, content: Mapping[str, Any], headers: Headers, with_head: bool) -> Found:
    if ADAPTER not in content:
        raise CheckpointNotFoundError(f"{folder} holds a head and no adapter")
    parts = [part for part in (ADAPTER, HEAD) if part in content and (part == ADAPTER or with_head)]
    files = {}
    for part in parts:
        weights = content[part]["weights"]
        path = weights_file(folder, weights["file"])
        files[part] = WeightsFile(path, headers.read(path), weights["sha256"], is_quantised(weights.get("dtype")))
    return Found(
        str(content.get("name") or folder.name),
        NativeSource(folder, files),
        {part: content[part]["config"] for part in parts},
        files,
        content.get("base_model"),
        is_native=True,
    )


def _foreign(model: "AdapterMixin", folder: Path, found: "tuple[str, dict[str, Any]]", options: LoadOptions) -> Found:
    name, parts = found
    forms = {
        kind: {path: torch.empty_like(tensor, device="meta") for path, tensor in part.tensors.items()}
        for kind, part in parts.items()
    }
    size = sum(tensor.nbytes for part in parts.values() for tensor in part.tensors.values())
    configs = {kind: part.config for kind, part in parts.items()}
    return Found(name, ForeignSource(model, folder, size, options), configs, forms, None, is_native=False)
