"""Hidden states in a file of safetensors: written piece by piece, whole or not there, mapped into memory to be read."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adapterhub.errors import CorruptCheckpointError
from adapterhub.files import replace, sync_folder

_NAME = "states"


@dataclass
class Noted:
    """How many batches are on disk, of a file that is being written."""

    path: Path
    mapped: np.memmap
    batches: int = field(init=False)

    def __post_init__(self) -> None:
        self.batches = 0
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.batches = int(json.loads(self.path.read_text(encoding="utf-8"))["batches"])

    def note(self, batches: int) -> None:
        """Bring what was written to disk, and note that it is there."""
        self.mapped.flush()
        replace(self.path, json.dumps({"batches": batches}).encode())


@dataclass(frozen=True)
class StateFile:
    """A tensor ``shape`` of ``dtype`` in the file at ``path``."""

    TYPES: ClassVar[dict[torch.dtype, str]] = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}

    path: Path
    shape: tuple[int, int]
    dtype: torch.dtype

    def is_there(self) -> bool:
        """Whether it was written to its end."""
        return self.path.exists()

    def size_so_far(self) -> int:
        """Bytes of what was written of a file that is not whole yet."""
        return self._partial.stat().st_size if self._partial.exists() else 0

    @contextmanager
    def writing(self) -> Iterator[tuple[Tensor, Noted]]:
        """The tensor to be filled, with what is on disk of it already; left without an error, the file is whole."""
        header = self._header()
        size = len(header) + self.shape[0] * self.shape[1] * self.dtype.itemsize
        notes = self.path.with_suffix(".json")
        if self.size_so_far() != size:
            notes.unlink(missing_ok=True)
            with self._partial.open("wb") as file:
                file.write(header)
                file.truncate(size)
        mapped = np.memmap(self._partial, np.uint8, "r+")
        yield torch.from_numpy(mapped[len(header) :]).view(self.dtype).view(self.shape), Noted(notes, mapped)
        mapped.flush()
        self._partial.replace(self.path)
        notes.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def read(self) -> Tensor:
        """The tensor, of which only what is looked at is read into memory.

        Raises:
            CorruptCheckpointError: if the file is another one.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                states: Tensor = file.get_tensor(_NAME)
        except (OSError, SafetensorError) as error:
            raise CorruptCheckpointError(f"{self.path} cannot be read: {error}. Delete it.") from error
        if tuple(states.shape) != self.shape or states.dtype != self.dtype:
            raise CorruptCheckpointError(
                f"{self.path} holds {list(states.shape)} of {states.dtype} in the place of {list(self.shape)} of "
                f"{self.dtype}. Delete it."
            )
        return states

    @property
    def _partial(self) -> Path:
        return self.path.with_suffix(".partial")

    def _header(self) -> bytes:
        """That of a file of safetensors with this one tensor: its length, and JSON padded to whole eights of bytes."""
        size = self.shape[0] * self.shape[1] * self.dtype.itemsize
        described = {"dtype": self.TYPES[self.dtype], "shape": list(self.shape), "data_offsets": [0, size]}
        text = json.dumps({_NAME: described}).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text
