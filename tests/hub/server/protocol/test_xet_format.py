"""Xorbs and shards are read as they are, and refused if they cannot be; no input takes more memory than it may."""

import io
import struct
import tracemalloc

import lz4.frame
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server.protocol.xet import format
from hub.server.protocol.xet_files import GROUPED, LZ4, RAW, chunk, packed, shard, xorb

NAME = "0123456789abcdef" * 4


def unpacked(data: bytes) -> list[bytes]:
    """The chunks of a xorb."""
    stream = io.BytesIO(data)
    found = []
    for one in format.chunks(stream):
        stream.seek(one.start)
        found.append(format.unpack(one, stream.read(one.packed)))
    return found


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.sampled_from([RAW, LZ4, GROUPED]))
def test_chunks_come_back_as_they_were(parts: list[bytes], scheme: int) -> None:
    assert unpacked(xorb(parts, scheme)) == parts


def test_every_fourth_byte_goes_back_to_its_place() -> None:
    """The example of a client: groups of 0 4 8, 1 5 9, 2 6, 3 7 for ten bytes."""
    grouped = bytes([0, 4, 8, 1, 5, 9, 2, 6, 3, 7])
    body = lz4.frame.compress(grouped)
    assert unpacked(chunk(body, GROUPED, 10)) == [bytes(range(10))]


def test_a_shard_tells_its_files() -> None:
    stream = io.BytesIO(shard([(NAME, [(NAME, 0, 2, 300), (NAME, 5, 6, 7)]), (None, []), (NAME[::-1], [])]))
    first, second, third = format.files(stream)
    assert (first.sha256, second.sha256, third.sha256) == (NAME, None, NAME[::-1])
    assert list(format.segments(stream, first)) == [
        format.Segment(NAME, 0, 2, 300),
        format.Segment(NAME, 5, 6, 7),
    ]
    assert list(format.segments(stream, second)) == []


def test_hashes_are_written_by_groups_of_eight_bytes() -> None:
    assert format.hexadecimal(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"


@pytest.mark.parametrize(
    "data",
    [
        chunk(bytes(10), RAW, 11),
        chunk(bytes(10), RAW, 0),
        chunk(bytes(10), 3, 10),
        chunk(bytes(10), LZ4, 10),
        chunk(packed(bytes(10), LZ4), LZ4, 9),
        chunk(packed(bytes(10), LZ4), LZ4, 11),
        chunk(packed(bytes(10), GROUPED)[:-6], GROUPED, 10),
        chunk(bytes(10), RAW, 10)[:-1],
        chunk(bytes(10), RAW, 10) + b"\0\0\0",
        b"\1" + chunk(bytes(10), RAW, 10)[1:],
        chunk(bytes((128 << 10) + 1), RAW, (128 << 10) + 1),
        chunk(bytes(200 << 10), LZ4, 1000),
        chunk(b"a", RAW, 1) * 8193,
    ],
)
def test_what_is_no_xorb(data: bytes) -> None:
    with pytest.raises(UploadRefusedError):
        unpacked(data)


GOOD = shard([(NAME, [(NAME, 0, 2, 300)])])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:40],
        b"x" + GOOD[1:],
        GOOD[:32] + struct.pack("<Q", 3) + GOOD[40:],
        GOOD[:-48],
        GOOD[:-48] + b"\0" * 48,
        shard([(NAME, [(NAME, 0, 2, 300)])], counts=[2**32 - 1]),
        shard([(NAME, [(NAME, 0, 2, 300)])], counts=[2]),
        shard([(NAME, [(NAME, 0, 0, 0)])]),
        shard([(NAME, [(NAME, 2, 1, 10)])]),
        shard([(NAME, [(NAME, 0, 2**32 - 1, 10)])]),
        shard([(NAME, [(NAME, 0, 1, 2**32 - 1)])]),
        shard([(NAME, [(NAME, 0, 2, 300)])], end=False),
    ],
)
def test_what_is_no_shard(data: bytes) -> None:
    stream = io.BytesIO(data)
    with pytest.raises(UploadRefusedError):
        [list(format.segments(stream, one)) for one in format.files(stream)]


def test_a_bomb_is_not_unpacked() -> None:
    """64 MiB of LZ4 would be 16 GiB; a chunk of it is refused after the bytes that it may have."""
    bomb = lz4.frame.compress(bytes(32 << 20), compression_level=9)
    assert len(bomb) < 140_000
    tracemalloc.start()
    with pytest.raises(UploadRefusedError, match="other than the 1,000 bytes"):
        unpacked(chunk(bomb[: 128 << 10], LZ4, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@settings(max_examples=400)
@given(st.binary(max_size=400), st.integers(0, 400), st.binary(max_size=12), st.booleans())
@example(b"", 0, b"", True)
def test_any_bytes_are_read_or_refused(noise: bytes, place: int, change: bytes, whole: bool) -> None:
    """Noise, and good files with some bytes changed."""
    tracemalloc.start()
    for good, read in (
        (xorb([bytes(100), b"abc" * 50], GROUPED), unpacked),
        (xorb([bytes(range(256))], LZ4), unpacked),
        (shard([(NAME, [(NAME, 0, 2, 300)] * 2), (None, [])]), told),
    ):
        data = noise if whole else good[:place] + change + good[place + len(change) :]
        try:
            read(data)
        except UploadRefusedError:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def told(data: bytes) -> list[list[format.Segment]]:
    """What a shard says of its files."""
    stream = io.BytesIO(data)
    return [list(format.segments(stream, one)) for one in format.files(stream)]
