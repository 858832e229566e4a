"""Safetensors files of which the header alone is read, and values mapped into memory when they are wanted."""

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.tensors import check_tensors, unstack
from adapterhub.errors import CheckpointError, CheckpointNotFoundError, CorruptCheckpointError

_LENGTH = struct.Struct("<Q")  # of the header, before it
_MOST = 100_000_000  # bytes of a header that safetensors reads
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Span:
    """Where the values of a tensor are in a file, in bytes from its beginning."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Header:
    """What the header of a safetensors file says: every tensor by name, and the bytes of the whole file."""

    spans: Mapping[str, Span]
    size: int

    def forms(self, what: str) -> dict[str, Tensor]:
        """The tensors by name as a checkpoint of ours names them, on no device: shapes and types alone.

        Raises:
            CorruptCheckpointError: if a name and a shape do not go together.
        """
        empty = {name: torch.empty(one.shape, dtype=one.dtype, device="meta") for name, one in self.spans.items()}
        return unstack(empty, what)


class Headers:
    """Headers that were read; files that begin with the same bytes have one in common."""

    def __init__(self) -> None:
        self._known: dict[bytes, Header] = {}

    def read(self, path: Path) -> Header:
        """The header of a file.

        Raises:
            CheckpointNotFoundError: if there is no such file.
            CorruptCheckpointError: if the file is truncated, or no safetensors file.
        """
        data, size = _read(path)
        header = self._known.get(data)
        if header is None:
            header = self._known[data] = parse(data, str(path))
        if header.size != size:
            raise CorruptCheckpointError(
                f"{path} is of {size} bytes, and its header tells of {header.size}. Copy it again."
            )
        return header


def _read(path: Path) -> tuple[bytes, int]:
    """The bytes of a header, its length before it, and the size of the file."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_LENGTH.size)
            length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else _MOST + 1
            if length > min(_MOST, size - _LENGTH.size):
                raise CorruptCheckpointError(f"{path} is truncated, or no safetensors file. Copy it again.")
            return start + file.read(length), size
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"{path} is not there") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}") from error


def parse(data: bytes, what: str) -> Header:
    """What the bytes of a header say, its length before it.

    Raises:
        CorruptCheckpointError: if they are not those of a safetensors file of types that are read.
    """
    start = len(data)
    try:
        entries = json.loads(data[_LENGTH.size :])
        spans = dict(_spans(entries, start))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCheckpointError(
            f"{what} has no header of a safetensors file: {error!r}. Copy it again."
        ) from error
    end = start
    for span in sorted(spans.values(), key=lambda one: one.start):
        if span.start != end:
            raise CorruptCheckpointError(f"{what}: tensors lie over one another, or there are gaps between them")
        end = span.start + _bytes(span)
    return Header(spans, end)


def _spans(entries: Any, start: int) -> Iterator[tuple[str, Span]]:
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        span = Span(_TYPES[entry["dtype"]], tuple(entry["shape"]), start + begin)
        if any(type(number) is not int or number < 0 for number in (*span.shape, begin, end)):
            raise ValueError(f"{name} has sizes that cannot be")
        if end - begin != _bytes(span):
            raise ValueError(f"{name} has {end - begin} bytes for the shape {list(span.shape)}")
        yield name, span


def _bytes(span: Span) -> int:
    size = span.dtype.itemsize
    for number in span.shape:
        size *= number
    return size


def mapped(path: Path, header: Header, digest: str | None) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory: their values are read from it when they are used, and not copied.

    With a ``digest`` (SHA-256, in hexadecimal) all of the file is looked at first. A file that others overwrite in
    place while its tensors are in use changes under them: replace files, as everything here does.

    Raises:
        CheckpointNotFoundError: if the file is gone.
        CorruptCheckpointError: if it is of another size or digest, or holds values that are not finite.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != header.size:
                raise CorruptCheckpointError(f"{path} changed: it is of {size} bytes, and was of {header.size}")
            # Writing to it, which nobody does, would change a copy of the page in memory alone.
            values = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"{path} is gone") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}") from error
    if digest is not None and hashlib.sha256(values).hexdigest() != digest:
        raise CorruptCheckpointError(f"{path} is truncated or altered: its SHA-256 is not that of the manifest")
    stacked = {name: _tensor(values, span) for name, span in header.spans.items()}
    if digest is not None:
        check_tensors(stacked, str(path))
    return unstack(stacked, str(path))


def _tensor(values: mmap.mmap, span: Span) -> Tensor:
    count = _bytes(span) // span.dtype.itemsize
    if not count:
        return torch.empty(span.shape, dtype=span.dtype)
    return torch.frombuffer(values, dtype=span.dtype, count=count, offset=span.start).view(span.shape)
