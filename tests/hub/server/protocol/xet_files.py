"""Xorbs and shards as clients make them, or as somebody would who means harm."""

import struct
from collections.abc import Sequence

import lz4.frame

RAW, LZ4, GROUPED = range(3)


def packed(data: bytes, scheme: int) -> bytes:
    """The packed bytes of a chunk."""
    if scheme == RAW:
        return data
    if scheme == GROUPED:
        data = b"".join(data[offset::4] for offset in range(4))
    return bytes(lz4.frame.compress(data))


def chunk(body: bytes, scheme: int, size: int) -> bytes:
    """A chunk that says it has ``size`` bytes when it is unpacked."""
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + body


def xorb(parts: Sequence[bytes], scheme: int) -> bytes:
    """A xorb of chunks with these bytes."""
    return b"".join(chunk(packed(part, scheme), scheme, len(part)) for part in parts) + b"XETBLOB\1" + bytes(40)


def swapped(hexadecimal: str) -> bytes:
    """The bytes of a hash that Xet writes like this."""
    return b"".join(bytes.fromhex(hexadecimal[start : start + 16])[::-1] for start in range(0, 64, 16))


def shard(
    files: Sequence[tuple[str | None, Sequence[tuple[str, int, int, int]]]],
    counts: Sequence[int] = (),
    end: bool = True,
) -> bytes:
    """A shard of files: the SHA-256 of each, and its segments (xorb, first chunk, chunk after the last, bytes).

    ``counts`` says other numbers of segments than there are.
    """
    made = [b"HFRepoMetaData\0".ljust(32, b"\x55"), struct.pack("<QQ", 2, 0)]
    for number, (sha256, segments) in enumerate(files):
        flags = (1 << 31) | (0 if sha256 is None else 1 << 30)
        count = counts[number] if counts else len(segments)
        made.append(struct.pack("<32sIIQ", bytes(32), flags, count, 0))
        for name, first, last, size in segments:
            made.append(struct.pack("<32sIIII", swapped(name), 0, size, first, last))
        made += [bytes(48)] * len(segments)
        if sha256 is not None:
            made.append(swapped(sha256) + bytes(16))
    return b"".join([*made, b"\xff" * 32 + bytes(16) if end else b""])
