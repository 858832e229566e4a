"""Rows that wait for their turn."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from adapterhub.serving.rows import Output, Row


@dataclass(frozen=True, eq=False)
class Job:
    """One row that is to be answered.

    Attributes:
        tenant: whose turn it takes: what it asks for, so that a flood for one adapter leaves the others theirs.
        came: when, by the clock of the event loop; ``due``: when nobody wants the answer any more.
        answer: given once it was run.
    """

    row: Row
    tenant: str
    came: float
    due: float
    answer: asyncio.Future[Output]

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.answer.done() and self.due > self.answer.get_loop().time()


class Waiting:
    """Jobs in the order in which they are done: tenants in turn, the jobs of each as they came."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[Job]] = OrderedDict()
        self._count = self._tokens = 0

    def __len__(self) -> int:
        return self._count

    @property
    def tokens(self) -> int:
        """Of all that waits."""
        return self._tokens

    @property
    def oldest(self) -> float:
        """When the job came that is next; infinite where none waits."""
        return next(iter(self._tenants.values()))[0].came if self._tenants else float("inf")

    def put(self, job: Job) -> None:
        """One more."""
        self._tenants.setdefault(job.tenant, deque()).append(job)
        self._count += 1
        self._tokens += len(job.row)

    def take(self, tokens: int) -> list[Job]:
        """At least one job, and so many that they have that many tokens; those that nobody wants are dropped."""
        taken: list[Job] = []
        size = 0
        while self._tenants and (not taken or size < tokens):
            job = self._next()
            if job.is_wanted:
                taken.append(job)
                size += len(job.row)
        return taken

    def _next(self) -> Job:
        tenant, jobs = self._tenants.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._tenants[tenant] = jobs  # behind all others
        self._count -= 1
        self._tokens -= len(job.row)
        return job
