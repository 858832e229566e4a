"""Processes that tests have started, looked at from outside."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(found: Callable[[], Value], seconds: float = 60) -> Value:
    """What ``found`` gives, once that is something."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def children(process: int) -> list[int]:
    """Processes that this one has started, without libraries that are not there on every machine."""
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def runs(process: int) -> bool:
    """Whether a process does, and is not ended with nobody yet to take note of it."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
