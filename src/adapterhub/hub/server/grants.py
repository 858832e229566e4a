"""Leave to bring the bytes of files into a repository, without the token of the account that gave it."""

from dataclasses import dataclass
from typing import Any

from adapterhub.hub.server import accounts, policy, signing
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, Repository
from adapterhub.hub.server.hub import Hub


@dataclass(frozen=True)
class Grant:
    """Who may bring what.

    Attributes:
        actor: the account that gave it.
        detail: what else was signed.
    """

    actor: Actor
    detail: dict[str, Any]


def give(hub: Hub, purpose: str, actor: Actor, repository: Repository, **detail: Any) -> str:
    """Sign that an account may bring something into a repository, in which it may write."""
    return signing.sign(hub, purpose, _names(actor, repository) | detail)


def take(hub: Hub, purpose: str, text: str, seconds: int) -> Grant:
    """What was signed less than ``seconds`` ago, if the account may still write in the repository.

    Raises:
        HubAccessError: else.
    """
    detail = signing.signed(hub, purpose, text, seconds)
    with hub.database.read() as session:
        account = session.get(Account, detail.pop("account"))
        repository = session.get(Repository, detail.pop("repository"))
        if account is None or account.disabled or repository is None:
            raise policy.no_repository("for this any more")
        actor = accounts.actor(account, detail.pop("scope"))
        policy.check_write(session, actor, repository)
    return Grant(actor, detail)


def _names(actor: Actor, repository: Repository) -> dict[str, Any]:
    return {"account": actor.id, "scope": actor.scope, "repository": repository.id}
