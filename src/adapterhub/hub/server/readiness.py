"""Whether a hub can take what is brought to it."""

import threading
import time
from dataclasses import dataclass

from adapterhub.hub.server.database import RateWindow
from adapterhub.hub.server.database.upserting import put
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.staging import staged

_PROBE = b"a file by which the hub finds out whether its store can be written to\n"
_KEPT_SECONDS = 5.0


@dataclass(frozen=True)
class State:
    """What does not work, in words; "" for what does."""

    database: str
    store: str

    @property
    def ready(self) -> bool:
        """Whether all works."""
        return not self.database and not self.store


class Readiness:
    """Finds out whether a hub is ready."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self._lock = hub, threading.Lock()
        self._when, self._found = 0.0, State("", "")

    def state(self) -> State:
        """Write something into the database and the store; what was found out a few seconds ago still holds."""
        with self._lock:
            if not self._when or time.monotonic() - self._when > _KEPT_SECONDS:
                self._found = State(_database(self._hub), _store(self._hub))
                self._when = time.monotonic()
            return self._found


def _database(hub: Hub) -> str:
    try:
        with hub.database.write() as session:
            put(session, RateWindow, {"key": "ready", "minute": int(time.time()) // 60}, count=0)
    except Exception as error:
        return type(error).__name__
    return ""


def _store(hub: Hub) -> str:
    try:
        with staged(hub.uploads, [_PROBE], len(_PROBE), "the probe") as file:
            hub.store.put(file.sha256, file.path)
    except Exception as error:
        return type(error).__name__
    return ""
