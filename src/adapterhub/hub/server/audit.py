"""The record of who did what: each entry holds a digest over itself and the one before."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from adapterhub.hub.server import counters, events
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import AuditEntry, now

_LOCK = 0x617564  # of PostgreSQL: entries are written one after another


def record(session: Session, actor: Actor, action: str, subject: str, **detail: Any) -> None:
    """Add an entry in the transaction of what was done, and have webhooks told of it."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    before = session.scalar(select(AuditEntry.digest).order_by(AuditEntry.id.desc()).limit(1)) or ""
    entry = AuditEntry(created=now(), actor=actor.name, action=action, subject=subject, detail=detail or None)
    entry.digest = _digest(before, entry)
    session.add(entry)
    session.flush()
    events.announce(session, entry)
    counters.count_action(session, action)


def entries(
    session: Session, *, before: int | None = None, action: str = "", subject: str = "", limit: int = 100
) -> list[AuditEntry]:
    """What was done of late, the newest first; ``before`` is the id of the last one that was seen."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if action:
        query = query.where(AuditEntry.action == action)
    if subject:
        query = query.where(AuditEntry.subject == subject.lower())
    return list(session.scalars(query))


def broken(session: Session) -> Iterator[int]:
    """The ids of entries whose digest is not the one that it was."""
    before = ""
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id)):
        if entry.digest != _digest(before, entry):
            yield entry.id
        before = entry.digest


def _digest(before: str, entry: AuditEntry) -> str:
    content = [before, entry.created.isoformat(), entry.actor, entry.action, entry.subject, entry.detail]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
