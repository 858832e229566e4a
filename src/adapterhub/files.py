"""Files that are whole or not there: replaced in one step, on disk when a call returns, one writer at a time."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_folder(path.parent)


def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Put ``data`` in the place of the file at ``path`` in one step; ``mode`` as for ``os.open``."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of fixed names, the last of which says what the others are.

    A folder that is new appears in one step. In one that is there already the last file goes first and comes last, so
    that nobody finds it beside files of another version.
    """
    last = list(files)[-1]
    if folder.exists():
        with locked(folder):
            (folder / last).unlink(missing_ok=True)
            for name, data in files.items():
                replace(folder / name, data)
        return
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        for name, data in files.items():
            replace(temporary / name, data)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def leads_out(folder: Path, name: str) -> bool:
    """Whether a file lies outside of the folder in truth, as a link does; the cache of the Hub is made of links."""
    path = folder / name
    plain = Path(name).name == name and name not in ("", "..")
    if plain and (not path.is_symlink() or path.resolve().parent == folder.resolve()):
        return False
    snapshot = next((one for one in path.absolute().parents if one.parent.name == "snapshots"), None)
    return snapshot is None or path.resolve().parent != (snapshot.parent.parent / "blobs").resolve()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of ``folder``; where the system cannot lock a folder, nobody is kept out."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk, where the system can do so."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a drive that syncs no folders
            raise
    finally:
        os.close(handle)
