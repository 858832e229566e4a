"""Bytes on their way in: hashed and counted while they are written to a file of this machine."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.git_objects import blob_hash

_PIECE = 1 << 20


@dataclass(frozen=True)
class Staged:
    """Bytes that have arrived.

    Attributes:
        path: the file that holds them for now.
        sha256: of the bytes.
        oid: the git id of a blob of them.
        size: in bytes.
    """

    path: Path
    sha256: str
    oid: str
    size: int


class Incoming:
    """A file that is being written; ``name`` is for errors.

    Args:
        limit: of its size in bytes.
    """

    def __init__(self, path: Path, limit: int, name: str) -> None:
        self.path, self.limit, self.name = path, limit, name
        self.size = 0
        self._digest = hashlib.sha256()
        self._file = path.open("xb")

    def write(self, piece: bytes) -> None:
        """Take more bytes.

        Raises:
            TooLargeError: if they are more than the limit.
        """
        self.size += len(piece)
        if self.size > self.limit:
            raise TooLargeError(f"{self.name} is larger than the {self.limit:,} bytes that it may have here")
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> Staged:
        """What has arrived, when it is all."""
        self._file.close()
        return Staged(self.path, self._digest.hexdigest(), _git_id(self.path, self.size), self.size)

    def discard(self) -> None:
        """Forget it, unless the store took it."""
        self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def incoming(folder: Path, limit: int, name: str) -> Iterator[Incoming]:
    """A file in ``folder`` to write to, which is gone when the block ends unless the store took it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = Incoming(folder / secrets.token_hex(16), limit, name)
    try:
        yield file
    finally:
        file.discard()


@contextmanager
def staged(folder: Path, pieces: Iterable[bytes], limit: int, name: str) -> Iterator[Staged]:
    """Write bytes to a file in ``folder`` that is gone when the block ends, unless the store took it.

    Raises:
        TooLargeError: for more than ``limit`` bytes; ``name`` says of what.
    """
    with incoming(folder, limit, name) as file:
        for piece in pieces:
            file.write(piece)
        yield file.finish()


def _git_id(path: Path, size: int) -> str:
    """The git id, which needs the size before the bytes."""
    made = blob_hash(size)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            made.update(piece)
    return made.hexdigest()
