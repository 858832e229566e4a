"""A store in a bucket of S3, or of what speaks like it."""

import io
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.store import S3Store as Bucket

_PIECE = 1 << 20
_PREFIX = "sha256/"


class S3Store:
    """Objects ``sha256/<sha256>`` under ``s3://bucket/prefix``.

    Args:
        url: of the bucket and what all names in it begin with.
        options: of obstore: ``endpoint``, ``region``, ``access_key_id``, ``secret_access_key``, ...
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        plain = options.get("endpoint", "").startswith("http://")
        self.bucket = Bucket.from_url(url, config=dict(options), client_options={"allow_http": plain})  # type: ignore[arg-type]

    def put(self, sha256: str, staged: Path) -> None:
        obstore.put(self.bucket, _PREFIX + sha256, staged)

    def exists(self, sha256: str) -> bool:
        try:
            obstore.head(self.bucket, _PREFIX + sha256)
        except FileNotFoundError:
            return False
        return True

    def open(self, sha256: str) -> BinaryIO:
        return io.BufferedReader(_Raw(self.bucket, _PREFIX + sha256), _PIECE)

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        while length > 0:
            size = min(length, 8 * _PIECE)
            yield bytes(obstore.get_range(self.bucket, _PREFIX + sha256, start=start, length=size))
            start, length = start + size, length - size

    def delete(self, sha256: str) -> None:
        try:
            obstore.delete(self.bucket, _PREFIX + sha256)
        except FileNotFoundError:
            return

    def listing(self) -> Iterator[tuple[str, datetime]]:
        for page in obstore.list(self.bucket, _PREFIX):
            for one in page:
                yield str(one["path"]).rpartition("/")[2], one["last_modified"]

    def path(self, sha256: str) -> Path | None:
        return None

    def link(self, sha256: str, filename: str, seconds: int) -> str | None:
        return obstore.sign(self.bucket, "GET", _PREFIX + sha256, timedelta(seconds=seconds))


class _Raw(io.RawIOBase):
    """An object that is read where it is asked for."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name, self._place = bucket, name, 0
        self._size = int(obstore.head(bucket, name)["size"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._size - self._place)
        if length <= 0:
            return 0
        data = obstore.get_range(self._bucket, self._name, start=self._place, length=length)
        buffer[:length] = memoryview(bytes(data))
        self._place += length
        return length
