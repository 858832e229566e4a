"""What comes by Xet: xorbs are kept until shards say how files are made of them, and then these are made and kept."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, Self

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server import blobs, pieces
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.xet import format
from adapterhub.hub.server.protocol.xet.format import Chunk, Segment

_OPEN = 8


def take_xorb(hub: Hub, actor: Actor, nonce: str, name: str, body: Iterator[bytes]) -> None:
    """Keep a xorb for the shards that come after it.

    Raises:
        UploadRefusedError: if it is none.
        TooLargeError: for more than the account may have waiting.
    """
    with blobs.arriving(hub, body, "a xorb", format.MAX_XORB) as file:
        with file.path.open("rb") as stream:
            format.chunks(stream)
        pieces.keep(hub, actor, nonce, name, file)


def take_shard(hub: Hub, actor: Actor, nonce: str, body: Iterator[bytes]) -> None:
    """Make the files of a shard from the xorbs of the same nonce, and keep them.

    Raises:
        UploadRefusedError: if a file cannot be made, or is not what the shard says.
        TooLargeError: if one is larger than files may be, or all are more than the account may have waiting.
    """
    with (
        blobs.arriving(hub, body, "a shard", format.MAX_SHARD) as shard,
        shard.path.open("rb") as stream,
        Xorbs(hub, actor, nonce) as xorbs,
    ):
        for number, file in enumerate(format.files(stream), 1):
            name = f"file {number} of a shard"
            _check_size(hub, actor, name, sum(one.size for one in format.segments(stream, file)))
            with blobs.arriving(hub, xorbs.bytes(format.segments(stream, file)), name) as made:
                if file.sha256 not in (None, made.sha256):
                    raise UploadRefusedError(f"{name} has the SHA-256 {made.sha256}, not {file.sha256} as it says")
                blobs.keep(hub, actor, made)


def _check_size(hub: Hub, actor: Actor, name: str, size: int) -> None:
    """Pass a file that there is room for, before any of it is made."""
    if size > (limit := hub.settings.max_file_bytes):
        raise TooLargeError(f"{name} is larger than the {limit:,} bytes that a file may have here")
    assert actor.id is not None
    with hub.database.read() as session:
        blobs.check_room(session, hub, actor.id, size)


class Xorbs:
    """The xorbs of a nonce, of which the last few are open."""

    def __init__(self, hub: Hub, actor: Actor, nonce: str) -> None:
        self._hub, self._actor, self._nonce = hub, actor, nonce
        self._open: OrderedDict[str, tuple[BinaryIO, list[Chunk]]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as stack:
            for stream, _ in self._open.values():
                stack.callback(stream.close)

    def bytes(self, segments: Iterable[Segment]) -> Iterator[bytes]:
        """The bytes of segments after one another.

        Raises:
            UploadRefusedError: for a xorb that has not come, or a segment that it does not hold.
        """
        for segment in segments:
            stream, chunks = self._at(segment.xorb)
            wanted = chunks[segment.first : segment.last]
            there = sum(chunk.size for chunk in wanted)
            if len(wanted) < segment.last - segment.first or there != segment.size:
                raise UploadRefusedError(
                    f"the xorb {segment.xorb} does not have {segment.size:,} bytes in the chunks "
                    f"{segment.first:,} to {segment.last:,}"
                )
            for chunk in wanted:
                stream.seek(chunk.start)
                yield format.unpack(chunk, stream.read(chunk.packed))

    def _at(self, name: str) -> tuple[BinaryIO, list[Chunk]]:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        piece = pieces.find(self._hub, self._actor, self._nonce, name)
        if piece is None:
            raise UploadRefusedError(f"the xorb {name} was not sent to this address: start the upload again")
        while len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1][0].close()
        stream = self._hub.store.open(piece.sha256)
        self._open[name] = stream, format.chunks(stream)
        return self._open[name]
