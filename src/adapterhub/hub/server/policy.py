"""Who may do what: the one place that decides."""

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session as Transaction

from adapterhub.errors import HubAccessError
from adapterhub.hub.server.accounts import role
from adapterhub.hub.server.actor import Actor, Scope
from adapterhub.hub.server.database import Account, Membership, Repository
from adapterhub.hub.server.errors import NotSignedInError, RepositoryNotFoundError

_WRITERS, _OWNERS = ("write", "owner"), ("owner",)


def may_read(session: Transaction, actor: Actor, repository: Repository) -> bool:
    """Whether somebody may see a repository: a public one anybody, a private one those who belong to its owner."""
    return not repository.private or actor.is_admin or _belongs(session, actor, repository.owner_id)


def may_write(session: Transaction, actor: Actor, owner: Account) -> bool:
    """Whether somebody may change what belongs to an account, and publish in its name."""
    return actor.has("write") and (actor.is_admin or _belongs(session, actor, owner.id, _WRITERS))


def may_administer(session: Transaction, actor: Actor, owner: Account) -> bool:
    """Whether somebody may change an account itself: its members, tokens, webhooks."""
    return actor.has("admin") and (actor.is_admin or _belongs(session, actor, owner.id, _OWNERS))


def check_read(session: Transaction, actor: Actor, repository: Repository) -> None:
    """Pass somebody who may see a repository; for others it does not exist.

    Raises:
        RepositoryNotFoundError: else.
    """
    if not may_read(session, actor, repository):
        raise no_repository(repository.key)


def check_write(session: Transaction, actor: Actor, repository: Repository) -> None:
    """Pass somebody who may change a repository.

    Raises:
        RepositoryNotFoundError: if not even seeing it is allowed.
        NotSignedInError, HubAccessError: if seeing it is.
    """
    check_read(session, actor, repository)
    if not may_write(session, actor, repository.owner):
        raise _refused(actor, "write", f"the adapters of {repository.owner.name}")


def check_publish(session: Transaction, actor: Actor, owner: Account) -> None:
    """Pass somebody who may publish in the name of an account.

    Raises:
        NotSignedInError, HubAccessError: else.
    """
    if not may_write(session, actor, owner):
        raise _refused(actor, "write", f"the adapters of {owner.name}")


def check_administer(session: Transaction, actor: Actor, owner: Account) -> None:
    """Pass somebody who may change an account.

    Raises:
        NotSignedInError, HubAccessError: else.
    """
    if not may_administer(session, actor, owner):
        raise _refused(actor, "admin", f"the account {owner.name}")


def check_server_admin(actor: Actor) -> None:
    """Pass somebody who administers the server.

    Raises:
        NotSignedInError, HubAccessError: else.
    """
    if not actor.is_admin:
        raise _refused(actor, "admin", "this server")


def check_scope(actor: Actor, scope: Scope) -> None:
    """Pass somebody with a token of this scope, whatever it is for.

    Raises:
        NotSignedInError, HubAccessError: else.
    """
    if not actor.has(scope):
        raise _refused(actor, scope, "this")


def visible(actor: Actor) -> ColumnElement[bool]:
    """What a query over ``Repository`` asks for so that it gives what somebody may see."""
    if actor.is_admin:
        return true()
    if actor.id is None:
        return Repository.private.is_(False)
    mine = select(Membership.organisation_id).where(Membership.user_id == actor.id)
    return or_(Repository.private.is_(False), Repository.owner_id == actor.id, Repository.owner_id.in_(mine))


def seen_owners(session: Transaction, actor: Actor) -> frozenset[int] | None:
    """Whose private repositories somebody may see; None is everybody's. What ``visible`` asks for, in numbers."""
    if actor.is_admin:
        return None
    if actor.id is None:
        return frozenset()
    mine = select(Membership.organisation_id).where(Membership.user_id == actor.id)
    return frozenset({actor.id, *session.scalars(mine)})


def no_repository(name: str) -> RepositoryNotFoundError:
    """The same words whether it is not there or may not be seen."""
    return RepositoryNotFoundError(f"there is no repository {name}, or you may not see it")


def _belongs(session: Transaction, actor: Actor, owner_id: int, roles: tuple[str, ...] | None = None) -> bool:
    if actor.id is None:
        return False
    if actor.id == owner_id:
        return True
    found = role(session, owner_id, actor.id)
    return found is not None and (roles is None or found in roles)


def _refused(actor: Actor, scope: Scope, what: str) -> HubAccessError:
    if actor.id is None:
        return NotSignedInError(f"sign in, or send a token of scope {scope!r}, to change {what}")
    if not actor.has(scope):
        return HubAccessError(f"the token of {actor.name} is for {actor.scope!r}: {what} need one for {scope!r}")
    return HubAccessError(f"{actor.name} may not change {what}: ask an owner")
