"""Threads of a worker that take jobs and do them."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from adapterhub.hub.server.database import now
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import queue
from adapterhub.hub.server.jobs.kinds import Kind
from adapterhub.hub.server.jobs.queue import Taken

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_RENEW_SECONDS = queue.HOLD.total_seconds() / 4
_STOP_SECONDS = 10.0


class Runner:
    """Does jobs in two threads, one for those that are slow, so that none of the others waits for them.

    Args:
        kinds: what there is to do, by name.
    """

    def __init__(self, hub: Hub, kinds: Mapping[str, Kind]) -> None:
        self._hub, self._kinds = hub, kinds
        self._ended = threading.Event()
        self._under_way: dict[int, Taken] = {}
        self._threads = [
            threading.Thread(target=self._run, args=[names], name="jobs", daemon=True)
            for slow in (False, True)
            if (names := [name for name, kind in kinds.items() if kind.slow == slow])
        ]

    def start(self) -> None:
        """Begin; what is done at regular times is put into the queue unless it is there."""
        with self._hub.database.write() as session:
            for name, kind in self._kinds.items():
                if kind.every is not None:
                    queue.add(session, name, key=name, due=now() + kind.every)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more jobs, and wait a while for those that are under way; another worker does what is left."""
        self._ended.set()
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for taken in list(self._under_way.values()):
            queue.give_back(self._hub.database, taken)

    def _run(self, names: list[str]) -> None:
        while not self._ended.is_set():
            try:
                did = self._step(names)
            except SQLAlchemyError:
                _LOG.exception("the queue of jobs cannot be read; it is tried again")
                did = False
            if not did:
                self._ended.wait(_LOOK_SECONDS)

    def _step(self, names: list[str]) -> bool:
        """Do one job, if there is one."""
        taken = queue.take(self._hub.database, names)
        if taken is None:
            return False
        kind = self._kinds[taken.kind]
        with self._held(taken):
            if taken.attempt > kind.tries:
                queue.give_up(self._hub.database, taken, "whoever took it died each time")
            else:
                self._do(kind, taken)
        if kind.every is not None:
            with self._hub.database.write() as session:
                queue.add(session, taken.kind, key=taken.kind, due=now() + kind.every)
        return True

    def _do(self, kind: Kind, taken: Taken) -> None:
        try:
            kind.run(self._hub, taken.arguments)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            _LOG.warning("job %d (%s), attempt %d: %s", taken.id, taken.kind, taken.attempt, words)
            end = queue.retry if taken.attempt < kind.tries else queue.give_up
            end(self._hub.database, taken, words)
        else:
            queue.finish(self._hub.database, taken)

    @contextmanager
    def _held(self, taken: Taken) -> Iterator[None]:
        """Keep the job ours while it is done."""
        done = threading.Event()
        self._under_way[taken.id] = taken

        def hold() -> None:
            while not done.wait(_RENEW_SECONDS):
                try:
                    queue.renew(self._hub.database, taken)
                except SQLAlchemyError:
                    _LOG.exception("the hold on job %d is not renewed", taken.id)

        thread = threading.Thread(target=hold, name="hold", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            del self._under_way[taken.id]
