"""Webhooks: addresses that are told of what happens in the repositories of an account."""

import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubNotFoundError
from adapterhub.hub.server import accounts, audit, egress, events, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Account, Delivery, Webhook

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

Event = Literal[
    "repository.create",
    "repository.delete",
    "repository.move",
    "repository.visibility",
    "commit",
    "branch.create",
    "branch.delete",
    "tag.create",
    "tag.delete",
    "score.measured",
]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_MOST = 20


class NewWebhook(BaseModel):
    """A webhook to make."""

    account: str | None = Field(None, max_length=96, description="Whose repositories; by default, of whoever asks")
    url: str = Field(min_length=1, max_length=2000)
    events: list[Event] = Field(default_factory=list, max_length=20, description="What it is told of; by default, all")


class WebhookView(BaseModel):
    """A webhook without its secret."""

    id: int
    url: str
    events: list[str]
    active: bool
    created: datetime


class WebhookMade(WebhookView):
    """A new webhook; the secret that signs its messages is shown this once."""

    secret: str


class DeliveryView(BaseModel):
    """A message, and what became of it."""

    id: int
    event: str
    body: dict[str, Any]
    status: int | None
    error: str
    attempts: int
    sent: datetime | None
    created: datetime


@router.get("", responses=problems(401, 403, 404))
def webhooks(
    hub: TheHub, actor: TheActor, account: Annotated[str | None, Query(max_length=96)] = None
) -> list[WebhookView]:
    """The webhooks of an account."""
    with hub.database.read() as session:
        owner = _owner(session, actor, account)
        found = session.scalars(select(Webhook).where(Webhook.account_id == owner.id).order_by(Webhook.id))
        return [WebhookView.model_validate(one, from_attributes=True) for one in found]


@router.post("", status_code=201, responses=problems(401, 403, 404, 409))
def add_webhook(hub: TheHub, actor: TheActor, wanted: NewWebhook) -> WebhookMade:
    """A new webhook, which is sent a first message to see whether it works."""
    egress.check_url(wanted.url, hub.settings.private_hosts)
    secret = secrets.token_hex(32)
    with hub.database.write() as session:
        owner = _owner(session, actor, wanted.account)
        if len(list(session.scalars(select(Webhook.id).where(Webhook.account_id == owner.id)))) >= _MOST:
            raise HubConflictError(f"{owner.name} has {_MOST} webhooks, and may have no more")
        made = Webhook(account_id=owner.id, url=wanted.url, secret=secret, events=list(wanted.events))
        session.add(made)
        session.flush()
        audit.record(session, actor, "webhook.create", owner.key, url=wanted.url)
        events.send(session, made, events.PING, {"account": owner.key})
        view = WebhookView.model_validate(made, from_attributes=True)
        return WebhookMade(**view.model_dump(), secret=secret)


@router.delete("/{number}", status_code=204, responses=problems(401, 403, 404))
def remove_webhook(hub: TheHub, actor: TheActor, number: Number) -> None:
    """Remove a webhook; what it was not yet sent it is sent no more."""
    with hub.database.write() as session:
        webhook, owner = _webhook(session, actor, number)
        session.delete(webhook)
        audit.record(session, actor, "webhook.remove", owner.key, url=webhook.url)


@router.get("/{number}/deliveries", responses=problems(401, 403, 404))
def deliveries(hub: TheHub, actor: TheActor, number: Number) -> list[DeliveryView]:
    """The last hundred messages of a webhook, the newest first."""
    with hub.database.read() as session:
        webhook, _ = _webhook(session, actor, number)
        mine = select(Delivery).where(Delivery.webhook_id == webhook.id).order_by(Delivery.id.desc()).limit(100)
        return [DeliveryView.model_validate(one, from_attributes=True) for one in session.scalars(mine)]


@router.post("/{number}/deliveries/{delivery}", status_code=202, responses=problems(401, 403, 404))
def send_again(hub: TheHub, actor: TheActor, number: Number, delivery: Number) -> DeliveryView:
    """Send a message again."""
    with hub.database.write() as session:
        webhook, _ = _webhook(session, actor, number)
        old = session.get(Delivery, delivery)
        if old is None or old.webhook_id != webhook.id:
            raise HubNotFoundError(f"the webhook {number} has no delivery {delivery}")
        content = {key: value for key, value in old.body.items() if key not in ("id", "event")}
        made = events.send(session, webhook, old.event, content)
        return DeliveryView.model_validate(made, from_attributes=True)


def _owner(session: Session, actor: Actor, name: str | None) -> Account:
    policy.check_scope(actor, "admin")
    owner = accounts.account(session, name or actor.name)
    policy.check_administer(session, actor, owner)
    return owner


def _webhook(session: Session, actor: Actor, number: int) -> tuple[Webhook, Account]:
    """A webhook that somebody may change; for others there is none."""
    policy.check_scope(actor, "admin")
    found = session.get(Webhook, number)
    owner = None if found is None else session.get(Account, found.account_id)
    if found is None or owner is None or not policy.may_administer(session, actor, owner):
        raise HubNotFoundError(f"there is no webhook {number}, or it is not yours")
    return found, owner
