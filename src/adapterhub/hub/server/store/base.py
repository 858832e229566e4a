"""What a store can do."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol


class Store(Protocol):
    """Bytes by their SHA-256 (64 small hexadecimal digits)."""

    def put(self, sha256: str, staged: Path) -> None:
        """Take the bytes of a local file, which is gone or of no use afterwards; when it returns they are safe."""

    def exists(self, sha256: str) -> bool:
        """Whether it holds these bytes."""

    def open(self, sha256: str) -> BinaryIO:
        """The bytes as a file that can be read and sought in.

        Raises:
            FileNotFoundError: if it does not hold them.
        """

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """A run of the bytes, in pieces."""

    def delete(self, sha256: str) -> None:
        """Forget these bytes; nothing happens if it does not hold them."""

    def listing(self) -> Iterator[tuple[str, datetime]]:
        """The SHA-256 of all that it holds, and since when."""

    def path(self, sha256: str) -> Path | None:
        """The file with these bytes on this machine, if the store is a folder here."""

    def link(self, sha256: str, filename: str, seconds: int) -> str | None:
        """An address where anybody gets these bytes for some time, if the store can give one."""
