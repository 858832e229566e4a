"""A store in a folder."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from adapterhub.files import make_folder, sync_folder

_PIECE = 1 << 18


class LocalStore:
    """Files at ``ab/cd/<sha256>`` under a folder, readable by all that may read it and writable by none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        make_folder(self.folder)

    def put(self, sha256: str, staged: Path) -> None:
        target = self._at(sha256)
        make_folder(target.parent)
        handle = os.open(staged, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        staged.chmod(0o444)
        staged.replace(target)
        sync_folder(target.parent)

    def exists(self, sha256: str) -> bool:
        return self._at(sha256).exists()

    def open(self, sha256: str) -> BinaryIO:
        return self._at(sha256).open("rb")

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        with self.open(sha256) as file:
            file.seek(start)
            while length > 0 and (piece := file.read(min(_PIECE, length))):
                length -= len(piece)
                yield piece

    def delete(self, sha256: str) -> None:
        self._at(sha256).unlink(missing_ok=True)

    def listing(self) -> Iterator[tuple[str, datetime]]:
        for path in self.folder.glob("??/??/*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                yield path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def path(self, sha256: str) -> Path | None:
        return self._at(sha256)

    def link(self, sha256: str, filename: str, seconds: int) -> str | None:
        return None

    def _at(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256[2:4] / sha256
