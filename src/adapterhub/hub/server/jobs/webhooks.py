"""Messages of webhooks are sent, signed, until they are taken."""

import hashlib
import hmac
import json
import time
from typing import Any

import adapterhub
from adapterhub.errors import HubAccessError, HubError, HubUnreachableError
from adapterhub.hub.server import egress
from adapterhub.hub.server.database import Delivery, Webhook, now
from adapterhub.hub.server.hub import Hub


class NotTakenError(HubError):
    """A message that was answered by something else than success."""


def deliver(hub: Hub, arguments: dict[str, Any]) -> None:
    """Send a message and write down how it went.

    Raises:
        HubUnreachableError, NotTakenError: if it is to be sent again.
    """
    with hub.database.read() as session:
        delivery = session.get(Delivery, arguments["delivery"])
        webhook = None if delivery is None else session.get(Webhook, delivery.webhook_id)
    if delivery is None or webhook is None or not webhook.active:
        return
    body = json.dumps(delivery.body, ensure_ascii=False, sort_keys=True).encode()
    status, words = None, ""
    try:
        status = egress.post(
            webhook.url, body, headers(webhook.secret, delivery.event, body), hub.settings.private_hosts
        )
    except HubAccessError as error:  # it would not get better
        words = str(error)
    except HubUnreachableError as error:
        words = str(error)
        raise
    finally:
        _write_down(hub, delivery.id, status, words)
    if status is not None and not 200 <= status < 300:
        raise NotTakenError(f"{webhook.url} answered {status}")


def headers(secret: str, event: str, body: bytes) -> dict[str, str]:
    """What a message brings along; who gets it makes the same signature, and minds that the time is recent."""
    stamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "User-Agent": f"adapterhub/{adapterhub.__version__}",
        "X-Adapterhub-Event": event,
        "X-Adapterhub-Timestamp": stamp,
        "X-Adapterhub-Signature": f"sha256={signature(secret, stamp, body)}",
    }


def signature(secret: str, stamp: str, body: bytes) -> str:
    """The HMAC-SHA256 over the time, a dot and the body."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _write_down(hub: Hub, number: int, status: int | None, error: str) -> None:
    with hub.database.write() as session:
        if (delivery := session.get(Delivery, number)) is not None:
            delivery.status, delivery.error = status, error
            delivery.attempts, delivery.sent = delivery.attempts + 1, now()
