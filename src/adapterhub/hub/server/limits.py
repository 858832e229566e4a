"""How many requests somebody may make within a minute.

Every worker counts by itself and exchanges its counts with the others through the database about once a second, in one
write for all that came meanwhile. Between two exchanges a worker does not know of the requests that the others got:
with N workers somebody may make as many more than are allowed as N - 1 of them answer within a second.
"""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.http.limits import MINUTE, Allowance
from adapterhub.hub.server import accounts
from adapterhub.hub.server.database import Database, RateWindow
from adapterhub.hub.server.database.upserting import count_up
from adapterhub.hub.server.errors import RateLimitError
from adapterhub.hub.server.regular import Regular
from adapterhub.hub.server.settings import Settings

_KNOWN_SECONDS, _MOST_KNOWN = 60.0, 10_000
_READS = ("GET", "HEAD", "OPTIONS")


@dataclass
class _Window:
    """The requests of this minute: those that all workers know of, and those that only this one does."""

    known: int = 0
    new: int = 0


class Limiter:
    """Counts the requests of accounts and addresses.

    Args:
        seconds: between two exchanges with other workers.
    """

    def __init__(self, database: Database, settings: Settings, seconds: float = 1.0) -> None:
        self._database = database
        self._limits = {"reads": settings.requests_per_minute, "writes": settings.writes_per_minute}
        self._minute, self._windows = 0, dict[str, _Window]()
        self._lock = threading.Lock()
        self._regular = Regular(self.exchange, seconds, "limits")

    def start(self) -> None:
        """Exchange counts from now on."""
        self._regular.start()

    def stop(self) -> None:
        """Give the last counts to the others."""
        self._regular.stop()

    def count(self, who: str, method: str) -> Allowance:
        """One request more of somebody; what is left after it."""
        kind = "reads" if method in _READS else "writes"
        minute, second = divmod(int(time.time()), MINUTE)
        with self._lock:
            if minute != self._minute:
                self._minute, self._windows = minute, {}
            window = self._windows.setdefault(f"{kind} of {who}", _Window())
            left = self._limits[kind] - window.known - window.new - 1
            if left >= 0:  # who keeps asking in vain is not counted for ever
                window.new += 1
        return Allowance(kind, self._limits[kind], left, MINUTE - second)

    def exchange(self) -> None:
        """Tell the other workers what came here, and learn what came there."""
        with self._lock:
            minute = self._minute
            mine = {key: window.new for key, window in self._windows.items() if window.new}
        if not mine:
            return
        with self._database.write() as session:
            for key, new in sorted(mine.items()):
                count_up(session, RateWindow, {"key": key, "minute": minute}, new)
            counts = select(RateWindow.key, RateWindow.count).where(RateWindow.minute == minute)
            known = dict(session.execute(counts.where(RateWindow.key.in_(list(mine)))).tuples().all())
            session.execute(delete(RateWindow).where(RateWindow.minute < minute - 1))
        with self._lock:
            if minute == self._minute:
                for key, new in mine.items():
                    window = self._windows[key]
                    window.known, window.new = known[key], window.new - new


class Askers:
    """Who makes a request, to count it: an account where a token or a cookie is a good one, else an address."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[float, int | None]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, value: str) -> tuple[bool, int | None]:
        """Whether it is known whose a token or the cookie of a session is, and whose."""
        with self._lock:
            until, account = self._known.get(accounts.digest(value), (0.0, None))
        return until > time.monotonic(), account

    def find(self, value: str) -> int | None:
        """Whose it is, from the database; it is remembered for a minute."""
        if accounts.is_token(value):
            account = accounts.by_token(self._database, value).id
        else:
            with self._database.read() as session:
                found = accounts.by_session(session, value)
                account = None if found is None else found.account_id
        with self._lock:
            self._known[accounts.digest(value)] = time.monotonic() + _KNOWN_SECONDS, account
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return account


def attempt(session: Session, key: str, limit: int) -> None:
    """Count one more attempt at what is seldom and dear, as a sign-in is: at once, so that all workers know of it.

    Raises:
        RateLimitError: if there were more than ``limit`` in this minute.
    """
    minute, second = divmod(int(time.time()), MINUTE)
    session.execute(delete(RateWindow).where(RateWindow.minute < minute - 1))
    count_up(session, RateWindow, {"key": key[:128], "minute": minute}, 1)
    tried = select(RateWindow.count).where(RateWindow.key == key[:128], RateWindow.minute == minute)
    if session.execute(tried).scalar_one() > limit:
        wait = MINUTE - second
        raise RateLimitError(f"that was tried {limit} times within a minute: wait {wait} seconds", wait)
