"""How often adapters are downloaded: counted in memory, and added to the database every few seconds."""

import threading
from collections import Counter
from datetime import date

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from adapterhub.hub.server.database import Database, DownloadDay, Repository, now
from adapterhub.hub.server.database.upserting import count_up
from adapterhub.hub.server.regular import Regular

_EVERY_SECONDS = 10.0


class Downloads:
    """What was downloaded since the last time that it was written down.

    Args:
        database: where it is written.
        seconds: how long a count may wait; what is not yet written is lost if the process is killed.
    """

    def __init__(self, database: Database, seconds: float = _EVERY_SECONDS) -> None:
        self._database = database
        self._counts: Counter[tuple[int, date]] = Counter()
        self._lock = threading.Lock()
        self._regular = Regular(self.flush, seconds, "downloads")

    def start(self) -> None:
        """Write what was counted from now on."""
        self._regular.start()

    def stop(self) -> None:
        """Write what is left."""
        self._regular.stop()

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
