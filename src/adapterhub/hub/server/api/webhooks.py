"""Webhooks: addresses that are told of what happens in the repositories of an account."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from adapterhub.hub.server import webhooks as service
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.events import Event

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


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
        found = service.of(session, service.owner(session, actor, account))
        return [WebhookView.model_validate(one, from_attributes=True) for one in found]


@router.post("", status_code=201, responses=problems(401, 403, 404, 409))
def add_webhook(hub: TheHub, actor: TheActor, wanted: NewWebhook) -> WebhookMade:
    """A new webhook, which is sent a first message to see whether it works."""
    made = service.add(hub, actor, wanted.account, wanted.url, wanted.events)
    return WebhookMade.model_validate(made, from_attributes=True)


@router.delete("/{number}", status_code=204, responses=problems(401, 403, 404))
def remove_webhook(hub: TheHub, actor: TheActor, number: Number) -> None:
    """Remove a webhook; what it was not yet sent it is sent no more."""
    with hub.database.write() as session:
        service.remove(session, actor, number)


@router.get("/{number}/deliveries", responses=problems(401, 403, 404))
def deliveries(hub: TheHub, actor: TheActor, number: Number) -> list[DeliveryView]:
    """The last hundred messages of a webhook, the newest first."""
    with hub.database.read() as session:
        found = service.deliveries(session, actor, number)
        return [DeliveryView.model_validate(one, from_attributes=True) for one in found]


@router.post("/{number}/deliveries/{delivery}", status_code=202, responses=problems(401, 403, 404))
def send_again(hub: TheHub, actor: TheActor, number: Number, delivery: Number) -> DeliveryView:
    """Send a message again."""
    with hub.database.write() as session:
        return DeliveryView.model_validate(service.send_again(session, actor, number, delivery), from_attributes=True)
