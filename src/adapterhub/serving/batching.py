"""Batches out of what waits: the rows of all adapters, stacks and heads together, one forward pass for each batch."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from adapterhub.inference.batching import Sized, batches
from adapterhub.serving import counters
from adapterhub.serving.errors import BrokenAdapterError, StoppingError, TooBusyError
from adapterhub.serving.rows import Output, Row
from adapterhub.serving.waiting import Job, Waiting

Run = Callable[[Sequence[Row]], list[Output]]
# As many batches are formed of what waits at once, so that rows of like length come together.
_AHEAD = 4


@dataclass(frozen=True)
class Limits:
    """Of batches and of what waits for one.

    Attributes:
        tokens: of a batch, padding included.
        wait: seconds for which a row waits for others before a batch that is not full is run.
        rows: that may wait.
    """

    tokens: int = 2048
    wait: float = 0.002
    rows: int = 4096


class Batcher:
    """Runs rows in batches, in a thread of its own.

    Args:
        run: gives an output for every row.
    """

    def __init__(self, run: Run, limits: Limits) -> None:
        self._run, self._limits, self._waiting = run, limits, Waiting()
        self._thread = ThreadPoolExecutor(1, "forward")
        self._came, self._speed = asyncio.Event(), 0.0  # tokens a second
        self._work: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Run what comes from now on."""
        self._work = asyncio.create_task(self._run_all(), name="batches")

    async def stop(self) -> None:
        """Run what waits, and end."""
        self._stopping = True
        self._came.set()
        if self._work is not None:
            await self._work
        self._thread.shutdown()

    def check_running(self) -> None:
        """Pass while batches are run.

        Raises:
            StoppingError: before and after that.
        """
        if self._work is None or self._work.done() or self._stopping:
            raise StoppingError("the server answers nothing: it has not begun, or it ends")

    def check_room(self, rows: int) -> None:
        """Pass so many rows more.

        Raises:
            StoppingError: if none are run any more.
            TooBusyError: if they are more than may wait.
        """
        self.check_running()
        if len(self._waiting) + rows > self._limits.rows:
            counters.REFUSED.labels("queue").inc()
            seconds = math.ceil(self._waiting.tokens / self._speed) if self._speed else 1
            wait = min(max(seconds, 1), 60)
            words = f"{len(self._waiting):,} rows wait already, and {self._limits.rows:,} may: ask again in {wait} s"
            raise TooBusyError(words, wait)

    async def answers(self, rows: Sequence[Row], tenant: str, due: float) -> list[Output]:
        """What the heads of rows give; ``due`` is when nobody wants it any more, by the clock of the event loop.

        Raises:
            TooBusyError, StoppingError: as ``check_room``.
            BrokenAdapterError: if a row cannot be run.
        """
        self.check_room(len(rows))
        loop = asyncio.get_running_loop()
        jobs = [Job(row, tenant, loop.time(), due, loop.create_future()) for row in rows]
        for job in jobs:
            self._waiting.put(job)
        counters.WAITING.set(len(self._waiting))
        self._came.set()
        try:
            return await asyncio.gather(*(job.answer for job in jobs))
        finally:  # who goes away, or has an error for an answer, wants no other
            for job in jobs:
                job.answer.cancel()

    async def _run_all(self) -> None:
        while len(self._waiting) or not self._stopping:
            await self._gathered()
            jobs = self._waiting.take(_AHEAD * self._limits.tokens)
            counters.WAITING.set(len(self._waiting))
            sized = (Sized(number, (job.row.tokens,)) for number, job in enumerate(jobs))
            for batch in batches(sized, self._limits.tokens, int):
                await self._batch([job for one in batch if (job := jobs[one.number]).is_wanted])

    async def _gathered(self) -> None:
        """Wait for a first row, and for more of them as long as there is room in a batch, and time."""
        loop = asyncio.get_running_loop()
        while self._waiting.tokens < self._limits.tokens and not self._stopping:
            self._came.clear()
            left = self._waiting.oldest + self._limits.wait - loop.time()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._came.wait(), None if math.isinf(left) else left)
            except TimeoutError:
                return

    async def _batch(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        begun, rows = loop.time(), [job.row for job in jobs]
        outputs = await loop.run_in_executor(self._thread, attempt, self._run, rows)
        seconds, tokens = loop.time() - begun, len(rows) * max(map(len, rows))
        self._speed += (tokens / max(seconds, 1e-6) - self._speed) * (0.1 if self._speed else 1.0)
        counters.tell_batch(len(rows), sum(map(len, rows)), tokens, seconds)
        for job, output in zip(jobs, outputs, strict=True):
            counters.WAITED.observe(begun - job.came)
            if job.answer.done():
                continue
            if isinstance(output, Exception):
                job.answer.set_exception(output)
            else:
                job.answer.set_result(output)


def attempt(run: Run, rows: Sequence[Row]) -> list[Output | BrokenAdapterError]:
    """An output, or what went wrong, for every row: where a batch fails, those that run alike are run by themselves."""
    try:
        return list(run(rows))
    except Exception as error:
        kinds = {row.runs_with for row in rows}
        if len(kinds) == 1:
            return [_broken(error)] * len(rows)
    found: dict[Row, Output | BrokenAdapterError] = {}
    for _, alike in _groups(rows):
        found |= zip(alike, attempt(run, alike), strict=True)
    return [found[row] for row in rows]


def _groups(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    ordered = sorted(rows, key=lambda row: row.runs_with)
    return ((kind, list(own)) for kind, own in groupby(ordered, key=lambda row: row.runs_with))


def _broken(error: Exception) -> BrokenAdapterError:
    made = BrokenAdapterError(f"the adapter cannot be run: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
