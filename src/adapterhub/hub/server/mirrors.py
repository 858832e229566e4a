"""Which adapters of other hubs a copy is kept of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubAccessError, HubIdError, HubNotFoundError
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.server import accounts, audit
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, Mirror, Mirrored
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import queue
from adapterhub.hub.server.settings import Settings

SEARCH = "?"
REFRESH = "mirror"


def add(session: Session, settings: Settings, actor: Actor, upstream: str, pattern: str, into: str | None) -> Mirror:
    """Keep a copy of what ``pattern`` says: ``owner/name``, where the name may hold ``*``, or ``?`` and words.

    Raises:
        HubAccessError: for a hub that is not among those that may be mirrored.
        HubIdError: for a pattern that is none.
        RepositoryNotFoundError: for an account ``into`` that there is none of.
    """
    check_upstream(settings, upstream)
    _check_pattern(pattern)
    owner = None if into is None else accounts.account(session, into).name
    made = Mirror(upstream=upstream.rstrip("/"), pattern=pattern, into=owner)
    session.add(made)
    session.flush()
    audit.record(session, actor, "mirror.create", made.upstream, pattern=pattern, into=owner)
    return made


def remove(session: Session, actor: Actor, number: int) -> None:
    """Keep it no longer; the copies stay.

    Raises:
        HubNotFoundError: if there is none of that number.
    """
    found = get(session, number)
    audit.record(session, actor, "mirror.remove", found.upstream, pattern=found.pattern)
    session.execute(delete(Mirror).where(Mirror.id == number))


def get(session: Session, number: int) -> Mirror:
    """The mirror of a number.

    Raises:
        HubNotFoundError: if there is none.
    """
    found = session.get(Mirror, number)
    if found is None:
        raise HubNotFoundError(f"there is no mirror {number}: `adapterhub hub mirror list` shows those that there are")
    return found


def all_of(session: Session) -> list[tuple[Mirror, Sequence[Mirrored]]]:
    """Every mirror with what it holds."""
    return [
        (one, session.scalars(select(Mirrored).where(Mirrored.mirror_id == one.id).order_by(Mirrored.name)).all())
        for one in session.scalars(select(Mirror).order_by(Mirror.id))
    ]


def queue_all(hub: Hub, arguments: dict[str, Any]) -> None:
    """Have every mirror refreshed."""
    with hub.database.write() as session:
        for number in session.scalars(select(Mirror.id)):
            queue.add(session, REFRESH, {"mirror": number}, key=f"{REFRESH} {number}")


def check_upstream(settings: Settings, upstream: str) -> None:
    """Pass a hub that may be mirrored.

    Raises:
        HubAccessError: for any other.
    """
    allowed = [one.rstrip("/") for one in settings.mirror_upstreams]
    if upstream.rstrip("/") not in allowed:
        raise HubAccessError(
            f"{upstream} is not among the hubs that may be mirrored ({', '.join(allowed)}): ADAPTERHUB_MIRROR_UPSTREAMS"
        )


def owner_of(session: Session, actor: Actor, mirror: Mirror, name: str) -> Account:
    """Who owns a copy here: the account that the mirror names, or an organisation named as upstream's owner.

    Raises:
        HubIdError: if that is the name of a user here, or cannot be one.
    """
    wanted = mirror.into or name.partition("/")[0]
    found = session.scalar(select(Account).where(Account.key == wanted.lower()))
    if found is None:
        found = accounts.add_organisation(session, wanted, None, full_name=f"Mirror of {mirror.upstream}")
        audit.record(session, actor, "organisation.create", found.key, mirror=mirror.id)
    if found.kind == "user" and mirror.into is None:
        raise HubIdError(f"{wanted} is a user here: mirror into another account, with --into")
    return found


def _check_pattern(pattern: str) -> None:
    if pattern.startswith(SEARCH):
        if not pattern.removeprefix(SEARCH).strip():
            raise HubIdError("a search needs words after its '?'")
        return
    owner, _, name = pattern.partition("/")
    RepositoryId(owner, name.replace("*", "x").replace("?", "x"))
