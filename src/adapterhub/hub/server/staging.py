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


@contextmanager
def staged(folder: Path, pieces: Iterable[bytes], limit: int, name: str) -> Iterator[Staged]:
    """Write bytes to a file in ``folder`` that is gone when the block ends, unless the store took it.

    Raises:
        TooLargeError: for more than ``limit`` bytes; ``name`` says of what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:
            for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise TooLargeError(f"{name} is larger than the {limit:,} bytes that a file may have here")
                digest.update(piece)
                file.write(piece)
        yield Staged(path, digest.hexdigest(), _git_id(path, size), size)
    finally:
        path.unlink(missing_ok=True)


def _git_id(path: Path, size: int) -> str:
    """The git id, which needs the size before the bytes."""
    made = blob_hash(size)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            made.update(piece)
    return made.hexdigest()
