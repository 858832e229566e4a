"""What those who administer the server see and do: accounts, their room, and the record of what was done."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Transaction

from adapterhub.errors import HubConflictError
from adapterhub.hub.server import accounts, audit, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, AuditEntry, Repository

PAGE = 50


@dataclass(frozen=True)
class Usage:
    """An account, and what it has here."""

    account: Account
    repositories: int
    bytes: int


def usages(session: Transaction, actor: Actor, page: int = 1) -> tuple[list[Usage], int]:
    """A page of all accounts by name, and how many accounts there are.

    Raises:
        HubAccessError: for who does not administer the server.
    """
    policy.check_server_admin(actor)
    rows = session.execute(
        select(Account, func.count(Repository.id), func.coalesce(func.sum(Repository.size), 0))
        .outerjoin(Repository, Repository.owner_id == Account.id)
        .group_by(Account.id)
        .order_by(Account.key)
        .offset((page - 1) * PAGE)
        .limit(PAGE)
    )
    total = session.scalar(select(func.count()).select_from(Account)) or 0
    return [Usage(account, int(count), int(size)) for account, count, size in rows], total


def set_quota(session: Transaction, actor: Actor, name: str, limit: int | None) -> None:
    """How many bytes an account may have; None for as many as the settings say."""
    policy.check_server_admin(actor)
    account = accounts.account(session, name)
    account.quota_bytes = limit
    audit.record(session, actor, "account.quota", account.key, bytes=limit)


def set_disabled(session: Transaction, actor: Actor, name: str, disabled: bool) -> None:
    """Lock an account out, or let it in again.

    Raises:
        HubConflictError: for one's own account.
    """
    policy.check_server_admin(actor)
    account = accounts.account(session, name)
    if account.id == actor.id:
        raise HubConflictError("you would lock yourself out: have another administrator do it")
    accounts.set_disabled(session, account, disabled)
    audit.record(session, actor, "account.disable" if disabled else "account.enable", account.key)


def entries(session: Transaction, actor: Actor, before: int | None = None) -> list[AuditEntry]:
    """What was done of late, the newest first; ``before`` is the id of the last entry that was seen."""
    policy.check_server_admin(actor)
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(PAGE)
    return list(session.scalars(query if before is None else query.where(AuditEntry.id < before)))
