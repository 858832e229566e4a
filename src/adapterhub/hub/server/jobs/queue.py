"""The queue of jobs: a table, from which each job is taken by one worker at a time.

A worker that takes a job renews its hold on it while it works. If the worker dies the hold runs out, and another one
takes the job; what a job does may therefore happen twice, and has to bear that.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Database, Job, now
from adapterhub.hub.server.database.upserting import add_new

HOLD = timedelta(seconds=120)
_FIRST_WAIT, _LONGEST_WAIT = 10.0, 6 * 3600.0


@dataclass(frozen=True)
class Taken:
    """A job in the hands of a worker; ``attempt`` tells this hold on it from later ones."""

    id: int
    kind: str
    arguments: dict[str, Any]
    attempt: int


def add(
    session: Session, kind: str, arguments: dict[str, Any] | None = None, *, key: str | None = None, due: Any = None
) -> bool:
    """Have something done, now or when it is ``due``; whether it was added.

    Args:
        key: nothing is added while a job of this key is not finished.
    """
    values = {"kind": kind, "key": key, "arguments": arguments or {}, "due": due or now()}
    return add_new(session, Job, **values, attempts=0, error="")


def take(database: Database, kinds: Collection[str]) -> Taken | None:
    """The job of these kinds that is due first, if there is one."""
    with database.read() as session:  # who only looks does not stand in the way of writers
        if session.scalar(_due(kinds)) is None:
            return None
    with database.write() as session:
        job = session.scalar(_due(kinds).with_for_update(skip_locked=True))
        if job is None:
            return None
        job.started, job.attempts = now(), job.attempts + 1
        session.flush()
        return Taken(job.id, job.kind, job.arguments, job.attempts)


def renew(database: Database, taken: Taken) -> bool:
    """Hold on to a job; whether it is still ours."""
    return _change(database, taken, started=now())


def finish(database: Database, taken: Taken) -> None:
    """It is done."""
    _change(database, taken, finished=now(), key=None, error="")


def retry(database: Database, taken: Taken, error: str) -> None:
    """It did not work: it is tried again, after a wait that grows with every attempt."""
    _change(database, taken, started=None, due=now() + _wait(taken.attempt), error=error)


def give_up(database: Database, taken: Taken, error: str) -> None:
    """It did not work, and is not tried again."""
    _change(database, taken, finished=now(), key=None, error=error)


def give_back(database: Database, taken: Taken) -> None:
    """It was begun and not done, for no fault of its own: anybody may take it."""
    _change(database, taken, started=None, attempts=taken.attempt - 1)


def _due(kinds: Collection[str]) -> Any:
    time = now()
    free = or_(Job.started.is_(None), Job.started < time - HOLD)
    return (
        select(Job).where(Job.finished.is_(None), Job.due <= time, free, Job.kind.in_(kinds)).order_by(Job.due).limit(1)
    )


def _change(database: Database, taken: Taken, **values: datetime | int | str | None) -> bool:
    """Change a job unless another worker has it by now."""
    mine = (Job.id == taken.id, Job.attempts == taken.attempt, Job.finished.is_(None))
    with database.write() as session:
        return bool(session.execute(update(Job).where(*mine).values(**values)).rowcount)  # type: ignore[attr-defined]


def _wait(attempt: int) -> timedelta:
    longest = min(_FIRST_WAIT * 4 ** (attempt - 1), _LONGEST_WAIT)
    return timedelta(seconds=longest * random.uniform(0.8, 1.2))
