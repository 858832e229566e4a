"""Ending a training after the step under way when a signal asks for it."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


class Interruption:
    """Whether a signal has asked to stop: ``wanted``, inside of ``listening``."""

    def __init__(self) -> None:
        self.wanted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A first SIGINT or SIGTERM asks to stop, and a second one stops at once; in the main thread alone."""
        self.wanted = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.wanted:
                raise KeyboardInterrupt
            self.wanted = True
            logger.warning("stopping after this step; once more to stop at once")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
