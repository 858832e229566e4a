"""The two formats of Xet: xorbs, which hold compressed chunks, and shards, which say what files are made of.

A xorb is chunks until its end, or until the word ``XETBLOB`` of its footer::

    version u8 = 0 | packed size u24 | scheme u8 | size u24 | packed bytes          little-endian

with the schemes 0: as it is, 1: an LZ4 frame, 2: every fourth byte from the first, second, third and fourth on, and
those as an LZ4 frame.

A shard is a header of 48 bytes (a word of 32 bytes, the version u64, the size of its footer u64), then for each file::

    hash 32 | flags u32 | number of segments u32 | unused u64
    for each segment: hash of a xorb 32 | flags u32 | bytes u32 | first chunk u32 | chunk after the last u32
    with flag 31, for each segment: 48 bytes to verify it by
    with flag 30: SHA-256 of the file 32 | unused 16

until a hash of nothing but ones. Hashes, the SHA-256 among them, are four u64 that are written in hexadecimal.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame
import numpy

from adapterhub.errors import UploadRefusedError

MAX_CHUNK = 128 << 10
MAX_CHUNKS = 8192
MAX_XORB = (64 << 20) + (1 << 20)  # the chunks and what tells of them
MAX_SHARD = 64 << 20
_MAX_PACKED = MAX_CHUNK + 1024  # LZ4 makes what it cannot compress a little larger
_RAW, _LZ4, _GROUPED = range(3)
_XORB_END = b"XETBLOB"
_SHARD_WORD = b"HFRepoMetaData\0"
_VERSION = 2
_HEADER = struct.Struct("<32sQQ")
_LINE = struct.Struct("<32sIIII")
_HASH = struct.Struct("<4Q")
_LAST = b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Chunk:
    """Where a chunk is in a xorb.

    Attributes:
        start: of its packed bytes.
        packed: how many these are.
        scheme: how they are packed.
        size: how many they are unpacked.
    """

    start: int
    packed: int
    scheme: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A part of a file: the chunks ``first <= i < last`` of a xorb, which have ``size`` bytes."""

    xorb: str
    first: int
    last: int
    size: int


@dataclass(frozen=True)
class File:
    """A file of a shard: its SHA-256 if that is said, and where ``count`` segments are told."""

    sha256: str | None
    start: int
    count: int


def chunks(xorb: BinaryIO) -> list[Chunk]:
    """The chunks of a xorb.

    Raises:
        UploadRefusedError: if it is none, or has more or larger ones than a xorb may.
    """
    end = xorb.seek(0, 2)
    found: list[Chunk] = []
    place = 0
    while place < end:
        xorb.seek(place)
        header = xorb.read(8)
        if header.startswith(_XORB_END):
            return found
        if len(header) < 8 or header[0] != 0:
            raise UploadRefusedError(f"a xorb holds no chunk at byte {place:,}")
        chunk = Chunk(place + 8, _u24(header[1:4]), header[4], _u24(header[5:8]))
        if not 0 < chunk.size <= MAX_CHUNK or chunk.packed > _MAX_PACKED or chunk.scheme not in (_RAW, _LZ4, _GROUPED):
            raise UploadRefusedError(f"a xorb holds a chunk that cannot be one, at byte {place:,}")
        found.append(chunk)
        place = chunk.start + chunk.packed
        if place > end:
            raise UploadRefusedError("a xorb ends in the middle of a chunk")
        if len(found) > MAX_CHUNKS:
            raise UploadRefusedError(f"a xorb holds more than {MAX_CHUNKS:,} chunks")
    return found


def unpack(chunk: Chunk, packed: bytes) -> bytes:
    """The bytes of a chunk.

    Raises:
        UploadRefusedError: if there are more or fewer than it says, or they are not packed as it says.
    """
    data = packed if chunk.scheme == _RAW else _decompressed(packed, chunk.size)
    if len(data) != chunk.size:
        raise UploadRefusedError(f"a chunk of a xorb has other than the {chunk.size:,} bytes that it says")
    return _ungrouped(data) if chunk.scheme == _GROUPED else data


def files(shard: BinaryIO) -> Iterator[File]:
    """The files of a shard.

    Raises:
        UploadRefusedError: if it is none.
    """
    word, version, _ = _HEADER.unpack(_read(shard, 0, _HEADER.size))
    if not word.startswith(_SHARD_WORD) or version != _VERSION:
        raise UploadRefusedError(f"this is no shard of version {_VERSION}")
    end, place = shard.seek(0, 2), _HEADER.size
    while True:
        first, flags, count, _, _ = _LINE.unpack(_read(shard, place, _LINE.size))
        if first == _LAST:
            return
        start = place + _LINE.size
        place = start + count * _LINE.size * (2 if flags & _VERIFIED else 1)
        if place > end:
            raise UploadRefusedError("a shard ends in the middle of a file")
        sha256 = None
        if flags & _WITH_SHA256:
            sha256 = hexadecimal(_read(shard, place, _LINE.size)[:32])
            place += _LINE.size
        yield File(sha256, start, count)


def segments(shard: BinaryIO, file: File) -> Iterator[Segment]:
    """The segments of a file of a shard.

    Raises:
        UploadRefusedError: for one that cannot be.
    """
    for number in range(file.count):
        line = _read(shard, file.start + number * _LINE.size, _LINE.size)
        xorb, _, size, first, last = _LINE.unpack(line)
        if not first < last <= MAX_CHUNKS or size > (last - first) * MAX_CHUNK:
            raise UploadRefusedError(f"a shard has a segment of the chunks {first:,} to {last:,} with {size:,} bytes")
        yield Segment(hexadecimal(xorb), first, last, size)


def hexadecimal(value: bytes) -> str:
    """A hash as Xet writes it."""
    return "".join(f"{part:016x}" for part in _HASH.unpack(value))


def _decompressed(packed: bytes, size: int) -> bytes:
    """What an LZ4 frame holds, or one byte more than ``size`` of it."""
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        return bytes(decompressor.decompress(packed, max_length=size + 1))
    except (RuntimeError, EOFError) as error:
        raise UploadRefusedError("a chunk of a xorb is no LZ4 frame, though it says so") from error


def _ungrouped(data: bytes) -> bytes:
    """Bytes whose every fourth were put together."""
    made = numpy.empty(len(data), numpy.uint8)
    source, place = numpy.frombuffer(data, numpy.uint8), 0
    for offset in range(4):
        part = made[offset::4]
        part[:] = source[place : place + len(part)]
        place += len(part)
    return made.tobytes()


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise UploadRefusedError("a shard is not whole")
    return data


def _u24(data: bytes) -> int:
    return int.from_bytes(data, "little")
