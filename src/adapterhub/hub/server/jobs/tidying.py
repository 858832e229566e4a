"""Rows that are of no more use go."""

from datetime import timedelta
from typing import Any

from sqlalchemy import delete

from adapterhub.hub.server.database import Delivery, Job, Session, now
from adapterhub.hub.server.hub import Hub

_JOBS_KEPT, _DELIVERIES_KEPT = timedelta(days=7), timedelta(days=30)


def tidy(hub: Hub, arguments: dict[str, Any]) -> None:
    """Forget jobs that are over, old deliveries of webhooks, and sessions that have ended."""
    with hub.database.write() as session:
        session.execute(delete(Job).where(Job.finished < now() - _JOBS_KEPT))
        session.execute(delete(Delivery).where(Delivery.created < now() - _DELIVERIES_KEPT))
        session.execute(delete(Session).where(Session.expires < now()))
