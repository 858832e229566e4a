"""How often somebody may try something: counted in the database, so that all workers count together."""

import time

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import RateWindow
from adapterhub.hub.server.database.upserting import count_up
from adapterhub.hub.server.errors import RateLimitError


def count(session: Session, key: str, limit: int) -> int:
    """Count one more attempt by ``key`` in this minute; returns how many are left.

    Raises:
        RateLimitError: if there are none.
    """
    minute, second = divmod(int(time.time()), 60)
    session.execute(delete(RateWindow).where(RateWindow.minute < minute - 1))
    count_up(session, RateWindow, {"key": key[:128], "minute": minute}, 1)
    tried = select(RateWindow.count).where(RateWindow.key == key[:128], RateWindow.minute == minute)
    left = limit - session.execute(tried).scalar_one()
    if left < 0:
        raise RateLimitError(f"that was tried {limit} times within a minute: wait {60 - second} seconds", 60 - second)
    return left
