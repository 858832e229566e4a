"""Work that every process of a server does again and again beside the requests."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

_LOG = logging.getLogger(__name__)


class Regular:
    """Does something every so many seconds in a thread of its own, and once more when it is stopped.

    Args:
        do: what is done; where the database refuses, it is told in the log and done again the next time.
        seconds: between two times.
        name: of the thread.
    """

    def __init__(self, do: Callable[[], None], seconds: float, name: str) -> None:
        self._do, self._seconds, self._name = do, seconds, name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do it a last time."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._try()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._try()

    def _try(self) -> None:
        try:
            self._do()
        except SQLAlchemyError:
            _LOG.exception("%s: the database did not take it; it is tried again", self._name)
