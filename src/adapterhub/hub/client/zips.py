"""Adapters in zip files at an address, as AdapterHub gave them out before there were hubs."""

import hashlib
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urldefrag, urlsplit

import httpx

from adapterhub.errors import HubError, HubUnreachableError, UploadRefusedError
from adapterhub.files import locked, make_folder, sha256_of
from adapterhub.hub.client.addresses import home
from adapterhub.hub.inspecting import check_paths

_MOST_BYTES, _MOST_UNPACKED, _MOST_FILES = 1 << 30, 2 << 30, 1000
_PIECE = 1 << 20
_TIMEOUT = httpx.Timeout(30, connect=5)
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")
_TAKEN = (".json", ".safetensors", ".bin")  # whether pickles are read, is said where files are read


def is_zip(text: str) -> bool:
    """Whether a text is the address of a zip file."""
    parts = urlsplit(text) if text.startswith(("http://", "https://")) else None
    return parts is not None and bool(parts.netloc) and parts.path.lower().endswith(".zip")


def fetch(url: str) -> Path:
    """The folder with what is in the zip file at an address; it is fetched once, and kept under its address.

    ``url`` may end with ``#sha256=...``: then the file has to be that one. Of what is in it, configurations and weights
    are taken, and nothing else.

    Raises:
        HubUnreachableError: if there is no answer, or none with a file.
        HubError: if it is no zip file, another one, larger than 1 GiB (2 GiB unpacked), or holds names that lead out of
            its folder.
    """
    folder = home() / "zips" / hashlib.sha256(url.encode()).hexdigest()
    make_folder(folder.parent)
    lock = folder.with_suffix(".lock")
    lock.touch()
    with locked(lock):  # of two processes one fetches, the other finds it there
        if not folder.exists():
            with _downloaded(url, folder) as file:
                _unpack(url, file, folder)
    return folder


@contextmanager
def _downloaded(url: str, folder: Path) -> Iterator[Path]:
    """The file at an address, beside ``folder`` for a while."""
    address, fragment = urldefrag(url)
    wanted = _DIGEST.fullmatch(fragment)
    if fragment and wanted is None:
        raise HubError(f"{url}: what follows '#' has to be sha256= and 64 hexadecimal digits")
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.zip")
    try:
        _download(address, part)
        if wanted is not None and (found := sha256_of(part)) != wanted[1]:
            raise HubError(f"{address} has the SHA-256 {found}, and should have {wanted[1]}")
        yield part
    finally:
        part.unlink(missing_ok=True)


def _download(address: str, part: Path) -> None:
    try:
        with (
            httpx.stream("GET", address, timeout=_TIMEOUT, follow_redirects=True) as answer,
            part.open("wb") as out,
        ):
            if answer.status_code != 200:
                raise HubUnreachableError(f"{address} answered {answer.status_code}: there is no file there")
            for piece in answer.iter_bytes(_PIECE):
                out.write(piece)
                if out.tell() > _MOST_BYTES:
                    raise HubError(f"{address} is larger than {_MOST_BYTES:,} bytes, and no adapter")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HubUnreachableError(f"{address} does not answer: {error or type(error).__name__}") from error


def _unpack(url: str, file: Path, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        with zipfile.ZipFile(file) as archive:
            taken = _members(url, archive)
            left = _MOST_UNPACKED
            for one in taken:
                target = temporary / one.filename
                make_folder(target.parent)
                with archive.open(one) as source, target.open("wb") as out:
                    left -= _copy(source, out, left, url)
        temporary.replace(folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise HubError(f"{url} is no zip file that can be read: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _members(url: str, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What is taken of the files in an archive.

    Raises:
        HubError: for names that are none everywhere, links, too many files, or if nothing of an adapter is in it.
    """
    files = [one for one in archive.infolist() if not one.is_dir()]
    if len(files) > _MOST_FILES:
        raise HubError(f"{url} holds {len(files):,} files, and no adapter: {_MOST_FILES:,} is the most")
    try:
        check_paths(one.filename for one in files)
    except UploadRefusedError as error:
        raise HubError(f"{url} is not unpacked: {error}") from error
    if any(stat.S_ISLNK(one.external_attr >> 16) for one in files):
        raise HubError(f"{url} is not unpacked: it holds links")
    taken = [one for one in files if one.filename.lower().endswith(_TAKEN)]
    if not taken:
        raise HubError(f"{url} holds no adapter: no file in it ends with {', '.join(_TAKEN)}")
    return taken


def _copy(source: IO[bytes], out: IO[bytes], most: int, url: str) -> int:
    """Copy a file, and count what really comes: what an archive says of sizes may be wrong.

    Raises:
        HubError: if there is more than ``most``.
    """
    size = 0
    while piece := source.read(_PIECE):
        size += len(piece)
        if size > most:
            raise HubError(f"{url} is more than {_MOST_UNPACKED:,} bytes when it is unpacked, and no adapter")
        out.write(piece)
    return size
