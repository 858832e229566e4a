"""Bytes that come in, and who has brought them."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Blob, Commit, Piece, Ref, Repository, Tree, Upload, now
from adapterhub.hub.server.database.upserting import put
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.staging import Staged, staged


def receive(hub: Hub, actor: Actor, data: bytes | Iterable[bytes], name: str) -> str:
    """Take bytes that an account brings; returns their SHA-256. ``name`` is for errors.

    Raises:
        TooLargeError: for more than a file may hold, or than an account may have.
    """
    pieces = [data] if isinstance(data, bytes) else data
    with arriving(hub, pieces, name) as file:
        keep(hub, actor, file)
        return file.sha256


@contextmanager
def arriving(hub: Hub, pieces: Iterable[bytes], name: str, limit: int | None = None) -> Iterator[Staged]:
    """Bytes that come in, to be looked at before ``keep`` takes them.

    Args:
        name: for errors.
        limit: how many they may be; by default, as many as a file may have.

    Raises:
        TooLargeError: for more.
    """
    with staged(hub.uploads, pieces, hub.settings.max_file_bytes if limit is None else limit, name) as file:
        yield file


def keep(hub: Hub, actor: Actor, file: Staged) -> None:
    """Take bytes that have come in.

    Raises:
        TooLargeError: for more than an account may have.
    """
    store(hub, actor, file)
    with hub.database.write() as session:
        record(session, actor, file)


def store(hub: Hub, actor: Actor, file: Staged) -> None:
    """Put bytes into the store; who brought them, and what for, is for the caller to write down *afterwards*.

    Their row comes first: the garbage collection leaves bytes alone whose row is new. What says that they were brought
    comes last, so that it is true wherever the server is killed.

    Raises:
        TooLargeError: for more than an account may have.
    """
    assert actor.id is not None
    with hub.database.write() as session:
        check_room(session, hub, actor.id, file.size)
        put(session, Blob, {"sha256": file.sha256}, oid=file.oid, size=file.size, used=now())
    if not hub.store.exists(file.sha256):
        hub.store.put(file.sha256, file.path)


def record(session: Session, actor: Actor, file: Staged) -> None:
    """Write down that an account brought bytes that the store holds."""
    put(session, Upload, {"sha256": file.sha256, "account_id": actor.id}, size=file.size, created=now())


def is_waiting(hub: Hub, actor: Actor, sha256: str) -> bool:
    """Whether an account has brought bytes that are in no commit yet."""
    with hub.database.read() as session:
        return session.get(Upload, (sha256, actor.id)) is not None


def check_room(session: Session, hub: Hub, account_id: int, size: int) -> None:
    """Pass if an account may bring ``size`` bytes more.

    Raises:
        TooLargeError: if not.
    """
    waiting = sum(
        session.scalar(select(func.sum(kind.size)).where(kind.account_id == account_id)) or 0
        for kind in (Upload, Piece)
    )
    limit = hub.settings.quota_bytes
    if waiting + size > limit:
        raise TooLargeError(
            f"{waiting:,} bytes that were sent wait for a commit, and with {size:,} more they pass {limit:,}"
        )


def has(session: Session, actor: Actor, repository: Repository, sha256: str) -> bool:
    """Whether bytes may go into a commit without being sent again: they were sent, or the repository holds them."""
    return bool(held(session, actor, repository, [sha256]))


def held(session: Session, actor: Actor, repository: Repository, asked: Collection[str]) -> set[str]:
    """Those of the bytes asked for that may go into a commit without being sent again."""
    sent = select(Upload.sha256).where(Upload.account_id == actor.id, Upload.sha256.in_(asked))
    found = set(session.scalars(sent))
    trees = select(Tree.files).join(Commit, Commit.tree_oid == Tree.oid).where(Commit.repository_id == repository.id)
    heads = trees.join(Ref, (Ref.oid == Commit.oid) & (Ref.repository_id == Commit.repository_id))
    for query in (heads, trees):  # the history only for what is nowhere else
        if found.issuperset(asked):
            break
        for files in session.scalars(query):
            found.update(file[1] for file in files.values() if file[1] in asked)
    return found
