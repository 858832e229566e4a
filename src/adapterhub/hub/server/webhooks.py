"""Webhooks: addresses that are told of what happens in the repositories of an account."""

import secrets
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubNotFoundError
from adapterhub.hub.server import accounts, audit, egress, events, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, Delivery, Webhook
from adapterhub.hub.server.hub import Hub

_MOST, _DELIVERIES = 20, 100


def owner(session: Session, actor: Actor, name: str | None = None) -> Account:
    """An account, by default that of ``actor``, whose webhooks ``actor`` may change.

    Raises:
        HubAccessError, RepositoryNotFoundError: if there is none.
    """
    policy.check_scope(actor, "admin")
    found = accounts.account(session, name or actor.name)
    policy.check_administer(session, actor, found)
    return found


def of(session: Session, account: Account) -> list[Webhook]:
    """The webhooks of an account, the oldest first."""
    return list(session.scalars(select(Webhook).where(Webhook.account_id == account.id).order_by(Webhook.id)))


def add(hub: Hub, actor: Actor, account: str | None, url: str, told: Sequence[str]) -> Webhook:
    """A new webhook, which is sent a first message to see whether it works; of no ``told`` it is told all.

    Raises:
        HubAccessError: for an address that is not to be asked, or an account of others.
        HubConflictError: if the account has very many.
    """
    egress.check_url(url, hub.settings.private_hosts)
    with hub.database.write() as session:
        whose = owner(session, actor, account)
        if (session.scalar(select(func.count()).where(Webhook.account_id == whose.id)) or 0) >= _MOST:
            raise HubConflictError(f"{whose.name} has {_MOST} webhooks, and may have no more")
        made = Webhook(account_id=whose.id, url=url, secret=secrets.token_hex(32), events=list(told))
        session.add(made)
        session.flush()
        audit.record(session, actor, "webhook.create", whose.key, url=url)
        events.send(session, made, events.PING, {"account": whose.key})
        return made


def remove(session: Session, actor: Actor, number: int) -> None:
    """Remove a webhook; what it was not yet sent it is sent no more."""
    webhook, whose = _find(session, actor, number)
    session.delete(webhook)
    audit.record(session, actor, "webhook.remove", whose.key, url=webhook.url)


def deliveries(session: Session, actor: Actor, number: int) -> list[Delivery]:
    """The last messages of a webhook, the newest first."""
    webhook, _ = _find(session, actor, number)
    mine = select(Delivery).where(Delivery.webhook_id == webhook.id)
    return list(session.scalars(mine.order_by(Delivery.id.desc()).limit(_DELIVERIES)))


def send_again(session: Session, actor: Actor, number: int, delivery: int) -> Delivery:
    """Send a message again.

    Raises:
        HubNotFoundError: if there is none.
    """
    webhook, _ = _find(session, actor, number)
    old = session.get(Delivery, delivery)
    if old is None or old.webhook_id != webhook.id:
        raise HubNotFoundError(f"the webhook {number} has no delivery {delivery}")
    content = {key: value for key, value in old.body.items() if key not in ("id", "event")}
    return events.send(session, webhook, old.event, content)


def _find(session: Session, actor: Actor, number: int) -> tuple[Webhook, Account]:
    """A webhook that somebody may change; for others there is none."""
    policy.check_scope(actor, "admin")
    found = session.get(Webhook, number)
    whose = None if found is None else session.get(Account, found.account_id)
    if found is None or whose is None or not policy.may_administer(session, actor, whose):
        raise HubNotFoundError(f"there is no webhook {number}, or it is not yours")
    return found, whose
