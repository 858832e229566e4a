"""What was fetched: files by their SHA-256, each once, and folders of adapters that are made of them."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from adapterhub.errors import HubError
from adapterhub.files import locked, make_folder, sha256_of, sync_folder
from adapterhub.hub.client.addresses import Address, home
from adapterhub.hub.client.connection import Connection
from adapterhub.hub.lock import LockedFile

_PIECE = 1 << 20


def snapshot(address: Address, repository: str, commit: str) -> Path:
    """The folder of a commit, which may not be there yet."""
    return home() / "snapshots" / f"{address.slug}--{repository.replace('/', '--')}--{commit}"


def fetch(address: Address, repository: str, commit: str, files: Mapping[str, LockedFile]) -> Path:
    """The folder of a commit with these files by path; what is here already is not fetched, what was cut off goes on.

    Raises:
        HubUnreachableError: if something is missing here, and the hub does not answer.
        HubError: if a file is not the one that its SHA-256 stands for.
    """
    folder = snapshot(address, repository, commit)
    if missing := {path: file for path, file in files.items() if not _blob(file.sha256).exists()}:
        with Connection(address) as connection:
            for path, file in missing.items():
                _fetch(connection, f"/{repository}/resolve/{commit}/{quote(path)}", file)
    for path, file in files.items():
        link(folder / path, file)
    return folder


def link(target: Path, file: LockedFile) -> None:
    """Put a link to the bytes of a file, which are here, where an adapter has it."""
    make_folder(target.parent)
    with suppress(FileExistsError):
        target.symlink_to(os.path.relpath(_blob(file.sha256), target.parent))


def _blob(sha256: str) -> Path:
    return home() / "blobs" / sha256


def _fetch(connection: Connection, path: str, file: LockedFile) -> None:
    blob = _blob(file.sha256)
    make_folder(blob.parent)
    part = blob.with_name(f"{blob.name}.part")
    with part.open("ab") as out, locked(part):  # of two processes one fetches, the other finds it there
        if blob.exists():
            part.unlink(missing_ok=True)
            return
        done = part.stat().st_size
        if done > file.size:
            out.truncate(done := 0)
        if done < file.size:
            with connection.stream(path, done) as answer:
                if answer.status_code != 206:
                    out.truncate(0)
                for piece in answer.iter_bytes(_PIECE):
                    out.write(piece)
        out.flush()
        os.fsync(out.fileno())
        if (found := sha256_of(part)) != file.sha256:
            part.unlink()
            raise HubError(f"{connection.address.url}{path} has the SHA-256 {found}, and should have {file.sha256}")
        part.chmod(0o444)
        part.replace(blob)
    sync_folder(blob.parent)
