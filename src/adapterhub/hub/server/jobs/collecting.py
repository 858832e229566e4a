"""The garbage collection: what was brought and never published, and what is left of what was deleted, goes.

It may run while the hub is served, by any number of workers, on any database. Whoever brings or publishes bytes first
writes into their row that they are used now; here a row is taken away only as long as it says otherwise, and its bytes
within the same transaction. Who comes meanwhile waits for the row, finds it gone, and brings the bytes anew.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Blob, Commit, Piece, Tree, Upload, now
from adapterhub.hub.server.database.upserting import add_new
from adapterhub.hub.server.hub import Hub

KEPT = timedelta(hours=24)
_PAGE = 500


@dataclass
class Collected:
    """How many of each went.

    Attributes:
        uploads: notes that somebody brought bytes.
        pieces: parts of files on their way in.
        trees: lists of files that no commit has any more.
        blobs: files that nothing speaks of any more.
        freed: how many bytes these had.
        strays: files in the store that the database does not know.
        staged: files of uploads that ended early.
    """

    uploads: int = 0
    pieces: int = 0
    trees: int = 0
    blobs: int = 0
    freed: int = 0
    strays: int = 0
    staged: int = 0


def collect(hub: Hub, kept: timedelta = KEPT) -> Collected:
    """Take away what has been of no use for as long as ``kept``, which is more than any upload takes."""
    before = now() - kept
    done = Collected()
    done.uploads = _forget(hub, Upload, Upload.created < before)
    done.pieces = _forget(hub, Piece, Piece.created < before)
    done.trees = _forget(hub, Tree, Tree.used < before, ~exists().where(Commit.tree_oid == Tree.oid))
    for sha256, size in _unused(hub, before):
        if _take_away(hub, sha256, before):
            done.blobs += 1
            done.freed += size
    done.strays = sum(_take_stray_away(hub, sha256) for sha256 in _strays(hub, before))
    done.staged = _unstage(hub, before)
    return done


def _forget(hub: Hub, table: type[Upload | Piece | Tree], *conditions: ColumnElement[bool]) -> int:
    """In a transaction of its own, so that nobody waits for it who has what it waits for."""
    with hub.database.write() as session:
        return _delete(session, table, *conditions)


def _delete(session: Session, table: type[Upload | Piece | Tree | Blob], *conditions: ColumnElement[bool]) -> int:
    return int(session.execute(delete(table).where(*conditions)).rowcount)  # type: ignore[attr-defined]


def _unused(hub: Hub, before: datetime) -> list[tuple[str, int]]:
    """The blobs that nothing speaks of, and their sizes; a tree that comes later has made its blobs used now."""
    with hub.database.read() as session:
        old = session.execute(select(Blob.sha256, Blob.size).where(*_idle(before)))
        found = {bytes.fromhex(sha256): size for sha256, size in old}
        for files in session.scalars(select(Tree.files).execution_options(yield_per=_PAGE)):
            for file in files.values():
                found.pop(bytes.fromhex(file[1]), None)
    return [(sha256.hex(), size) for sha256, size in found.items()]


def _idle(before: datetime) -> tuple[ColumnElement[bool], ...]:
    """Blobs that were not used lately, and that nobody has brought."""
    return (
        Blob.used < before,
        ~exists().where(Upload.sha256 == Blob.sha256),
        ~exists().where(Piece.sha256 == Blob.sha256),
    )


def _take_away(hub: Hub, sha256: str, before: datetime) -> bool:
    with hub.database.write() as session:
        if not _delete(session, Blob, Blob.sha256 == sha256, *_idle(before)):
            return False
        hub.store.delete(sha256)
    return True


def _strays(hub: Hub, before: datetime) -> Iterator[str]:
    """Old bytes in the store without a row."""
    for sha256, since in hub.store.listing():
        if since < before:
            with hub.database.read() as session:
                if session.get(Blob, sha256) is None:
                    yield sha256


def _take_stray_away(hub: Hub, sha256: str) -> bool:
    """Bytes go under the lock of a row that is made for this, unless one has come."""
    with hub.database.write() as session:
        if not add_new(session, Blob, sha256=sha256, oid="", size=0, used=now()):
            return False
        hub.store.delete(sha256)
        _delete(session, Blob, Blob.sha256 == sha256)
    return True


def _unstage(hub: Hub, before: datetime) -> int:
    """What is left on this machine of work that was killed."""
    count = 0
    for path in hub.uploads.glob("*"):
        with suppress(FileNotFoundError):  # its upload has just ended
            if path.stat().st_mtime < before.timestamp():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                count += 1
    return count
