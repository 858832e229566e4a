"""safetensors files of strangers, read strictly: the header first, and the values in pieces.

The format: eight bytes with the length of the header, the header as JSON, then the values of all tensors one after
another. Files in which anything is left open (gaps, overlaps, bytes after the last tensor) are refused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.strict_json import parse_object

HEADER = 4 * 1024 * 1024
METADATA = 64 * 1024
TENSORS = 20_000
DIMENSIONS = 5
NAME = 1024
SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
# Bits that are all set in infinities and NaN alone.
_NOT_FINITE = {
    "F64": 0x7FF0_0000_0000_0000,
    "F32": 0x7F80_0000,
    "F16": 0x7C00,
    "BF16": 0x7F80,
    "F8_E4M3": 0x7F,
    "F8_E5M2": 0x7C,
}
_PIECE = 4 * 1024 * 1024
_AGAIN = "Save it again with the safetensors library, or copy it again."


class BinaryFile(Protocol):
    """What is needed of a file that is read."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most ``size`` of them."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, and say which."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: ``start`` and ``end`` count bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def parameters(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """The header of a safetensors file of ``size`` bytes, found at ``where``."""

    where: str
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int


def read_header(file: BinaryFile, where: str) -> TensorFile:
    """The tensors that a file holds.

    Raises:
        UploadRefusedError: for a file that is not of the format to the byte, or is beyond its limits.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(_exactly(file, 8, where), "little")
    if length > HEADER:
        raise UploadRefusedError(f"{where}: the header would be {length:,} bytes, and {HEADER:,} is the most. {_AGAIN}")
    if 8 + length > size:
        raise UploadRefusedError(f"{where} ends within its header. Copy it again.")
    header = _exactly(file, length, where)
    if not header.startswith(b"{"):
        raise UploadRefusedError(f"{where} is no safetensors file: its header is no JSON object. {_AGAIN}")
    content = parse_object(header, f"{where}, its header", depth=4)
    metadata = _metadata(content.pop("__metadata__", {}), where)
    if len(content) > TENSORS:
        raise UploadRefusedError(f"{where} holds {len(content):,} tensors, and {TENSORS:,} is the most")
    tensors = {name: _tensor(name, entry, 8 + length, where) for name, entry in content.items()}
    _check_order(tensors, 8 + length, size, where)
    return TensorFile(where, tensors, metadata, size)


def check_finite(file: BinaryFile, found: TensorFile) -> None:
    """Pass a file whose values are finite; whole numbers are.

    Raises:
        UploadRefusedError: naming the first tensor with a NaN or an infinity.
    """
    for name, tensor in found.tensors.items():
        bits = _NOT_FINITE.get(tensor.dtype)
        if bits is None:
            continue
        for values in _pieces(file, tensor, found.where):
            mask = values.dtype.type(bits)
            if ((values & mask) == mask).any():
                raise UploadRefusedError(
                    f"{found.where}: tensor {name!r} holds values that are not finite (NaN or infinity). If it was "
                    "trained, the training diverged: lower the learning rate, and train it again."
                )


def _pieces(file: BinaryFile, tensor: TensorInfo, where: str) -> Iterator[NDArray[Any]]:
    """The values as unsigned numbers of their bits."""
    kind = np.dtype(f"<u{SIZES[tensor.dtype]}")
    file.seek(tensor.start)
    for start in range(tensor.start, tensor.end, _PIECE):
        yield np.frombuffer(_exactly(file, min(_PIECE, tensor.end - start), where), kind)


def _exactly(file: BinaryFile, size: int, where: str) -> bytes:
    """The next ``size`` bytes, also of a file that gives fewer at a time."""
    parts = []
    while size:
        part = file.read(size)
        if not part:
            raise UploadRefusedError(f"{where} is truncated. Copy it again.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _metadata(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise UploadRefusedError(f"{where}: __metadata__ must be an object of texts. {_AGAIN}")
    size = sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
    if size > METADATA:
        raise UploadRefusedError(f"{where}: __metadata__ is {size:,} bytes, and {METADATA:,} is the most")
    return value


def _tensor(name: str, entry: Any, begin: int, where: str) -> TensorInfo:
    here = f"{where}: tensor {name[:80]!r}"
    if not name or len(name) > NAME or not name.isprintable():
        raise UploadRefusedError(f"{here} has a name that is empty, longer than {NAME} characters, or not printable")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UploadRefusedError(f"{here} must have a dtype, a shape and data_offsets, and nothing else. {_AGAIN}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise UploadRefusedError(f"{here} is of the type {dtype!r}, which is none of {', '.join(SIZES)}")
    if not _are_whole(shape) or len(shape) > DIMENSIONS:
        raise UploadRefusedError(f"{here}: the shape must be at most {DIMENSIONS} whole numbers from 0, not {shape!r}")
    if not _are_whole(offsets) or len(offsets) != 2:
        raise UploadRefusedError(f"{here}: data_offsets must be two whole numbers from 0, not {offsets!r}")
    start, end = offsets
    needed = math.prod(shape) * SIZES[dtype]
    if end - start != needed:
        raise UploadRefusedError(
            f"{here} takes {needed:,} bytes by type and shape, and {end - start:,} by data_offsets"
        )
    return TensorInfo(dtype, tuple(shape), begin + start, begin + end)


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_order(tensors: Mapping[str, TensorInfo], begin: int, size: int, where: str) -> None:
    """Pass tensors that follow one another from ``begin`` to the end of the file."""
    place = begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != place:
            what = "bytes before it belong to no tensor" if tensor.start > place else "it lies over another tensor"
            raise UploadRefusedError(f"{where}: tensor {name!r}: {what}. {_AGAIN}")
        place = tensor.end
    if place != size:
        what = "is truncated" if place > size else "goes on after the last tensor"
        raise UploadRefusedError(f"{where} {what}: {size:,} bytes, and {place:,} by its header. {_AGAIN}")
