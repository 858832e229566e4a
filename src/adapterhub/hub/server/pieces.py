"""Parts of what is on its way in. They are in the store, so that any worker finds what another one took."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import delete

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server import blobs
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Piece, now
from adapterhub.hub.server.database.upserting import put
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.staging import Staged


def keep(hub: Hub, actor: Actor, transfer: str, name: str, file: Staged) -> None:
    """Take a part of a transfer; one of the same name is replaced.

    Raises:
        TooLargeError: for more than an account may have waiting.
    """
    blobs.store(hub, actor, file)
    with hub.database.write() as session:
        key = {"account_id": actor.id, "transfer": transfer, "name": name}
        put(session, Piece, key, sha256=file.sha256, size=file.size, created=now())


def find(hub: Hub, actor: Actor, transfer: str, name: str) -> Piece | None:
    """A part of a transfer of this account."""
    with hub.database.read() as session:
        return session.get(Piece, (actor.id, transfer, name))


def joined(hub: Hub, actor: Actor, transfer: str, names: Sequence[str], size: int) -> AbstractContextManager[Staged]:
    """Parts of a transfer after one another, as one file of ``size`` bytes.

    Raises:
        UploadRefusedError: if a part is missing, or they make another size.
    """
    parts = [find(hub, actor, transfer, name) for name in names]
    if missing := [name for name, part in zip(names, parts, strict=True) if part is None]:
        raise UploadRefusedError(f"the parts {', '.join(missing[:10])} of {transfer} have not come: send them again")
    there = [part for part in parts if part is not None]
    if (total := sum(part.size for part in there)) != size:
        raise UploadRefusedError(f"the parts of {transfer} make {total:,} bytes, not {size:,}: send them all, once")
    return blobs.arriving(hub, _bytes(hub, there), transfer)


def forget(hub: Hub, actor: Actor, transfer: str) -> None:
    """A transfer is over."""
    with hub.database.write() as session:
        session.execute(delete(Piece).where(Piece.account_id == actor.id, Piece.transfer == transfer))


def _bytes(hub: Hub, parts: Sequence[Piece]) -> Iterator[bytes]:
    for part in parts:
        yield from hub.store.read(part.sha256, 0, part.size)
