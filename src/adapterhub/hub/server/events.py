"""What webhooks are told of: entries of the audit log that are about a repository."""

import secrets
from collections.abc import Mapping
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Account, AuditEntry, Delivery, Webhook
from adapterhub.hub.server.jobs import queue

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
EVENTS: tuple[Event, ...] = get_args(Event)
PING = "ping"
DELIVER = "webhook"


def announce(session: Session, entry: AuditEntry) -> None:
    """Have what was done told to the webhooks of the owner, and of the one before if it was moved."""
    if entry.action not in EVENTS:
        return
    owners = {str(name).partition("/")[0] for name in (entry.subject, (entry.detail or {}).get("was", entry.subject))}
    listening = (
        select(Webhook).join(Account, Account.id == Webhook.account_id).where(Webhook.active, Account.key.in_(owners))
    )
    for webhook in session.scalars(listening):
        if not webhook.events or entry.action in webhook.events:
            content = {"repository": entry.subject, "actor": entry.actor, "detail": entry.detail or {}}
            send(session, webhook, entry.action, content | {"created": entry.created.isoformat()})


def send(session: Session, webhook: Webhook, event: str, content: Mapping[str, Any]) -> Delivery:
    """Queue one message to a webhook."""
    body = {"id": secrets.token_hex(16), "event": event, **content}
    delivery = Delivery(webhook_id=webhook.id, event=event, body=body)
    session.add(delivery)
    session.flush()
    queue.add(session, DELIVER, {"delivery": delivery.id})
    return delivery
