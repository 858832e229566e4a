"""How often adapters are downloaded: counted in memory, and added to the database every few seconds."""

import logging
import threading
from collections import Counter
from datetime import date

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from adapterhub.hub.server.database import Database, DownloadDay, Repository, now
from adapterhub.hub.server.database.upserting import count_up

_EVERY_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


class Downloads:
    """What was downloaded since the last time that it was written down.

    Args:
        database: where it is written.
        seconds: how long a count may wait; what is not yet written is lost if the process is killed.
    """

    def __init__(self, database: Database, seconds: float = _EVERY_SECONDS) -> None:
        self._database, self._seconds = database, seconds
        self._counts: Counter[tuple[int, date]] = Counter()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="downloads", daemon=True)

    def start(self) -> None:
        """Write what was counted from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._try_flush()

    def count(self, repository_id: int) -> None:
        """One download more."""
        with self._lock:
            self._counts[repository_id, now().date()] += 1

    def flush(self) -> None:
        """Write what was counted; if the database does not take it, it is kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            with self._database.write() as session:
                ids = {repository_id for repository_id, _ in counts}
                left = set(session.scalars(select(Repository.id).where(Repository.id.in_(ids))))
                for (repository_id, day), count in sorted(counts.items()):
                    if repository_id in left:
                        count_up(session, DownloadDay, {"repository_id": repository_id, "day": day}, count)
                        added = {"downloads": Repository.downloads + count}
                        session.execute(update(Repository).where(Repository.id == repository_id).values(added))
        except SQLAlchemyError:
            with self._lock:
                self._counts.update(counts)
            raise

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._try_flush()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except SQLAlchemyError:
            _LOG.exception("the downloads could not be counted; they are, with the next ones")
