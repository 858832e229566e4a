"""Which rows are run, when, and what becomes of those that cannot be."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
import torch

from adapterhub.serving.batching import Batcher, Limits, attempt
from adapterhub.serving.errors import BrokenAdapterError, StoppingError, TooBusyError
from adapterhub.serving.rows import Output, Row
from adapterhub.serving.waiting import Job, Waiting


def row(length: int, head: str = "a") -> Row:
    return Row({"input_ids": [1] * length}, None, head)


def lengths(rows: Sequence[Row]) -> list[Output]:
    """The length of each row, for an answer."""
    return [{"length": torch.tensor(float(len(one)))} for one in rows]


def test_tenants_take_turns_and_the_rows_of_each_come_in_order() -> None:
    async def order() -> list[str]:
        waiting, loop = Waiting(), asyncio.get_running_loop()
        for tenant, count in (("flood", 6), ("b", 2), ("c", 1)):
            for number in range(count):
                waiting.put(Job(row(2, f"{tenant}{number}"), tenant, 0.0, loop.time() + 9, loop.create_future()))
        assert (len(waiting), waiting.tokens) == (9, 18)
        found = [job.row.head for _ in range(5) for job in waiting.take(4)]
        assert (len(waiting), waiting.tokens) == (0, 0)
        return found

    assert asyncio.run(order()) == ["flood0", "b0", "c0", "flood1", "b1", "flood2", "flood3", "flood4", "flood5"]


def test_what_nobody_waits_for_is_not_run() -> None:
    ran: list[int] = []
    held = threading.Event()

    def run(rows: Sequence[Row]) -> list[Output]:
        held.wait(10)
        ran.extend(len(one) for one in rows)
        return lengths(rows)

    async def ask() -> None:
        batcher, loop = Batcher(run, Limits(tokens=4, wait=0)), asyncio.get_running_loop()
        batcher.start()
        first = asyncio.create_task(batcher.answers([row(4)], "a", loop.time() + 9))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.answers([row(3)], "b", loop.time() + 9))
        late = asyncio.create_task(batcher.answers([row(2)], "c", loop.time()))
        await asyncio.sleep(0.05)
        gone.cancel()
        held.set()
        assert (await first)[0]["length"] == 4
        late.cancel()
        await batcher.stop()
        with pytest.raises(StoppingError):
            await batcher.answers([row(1)], "a", loop.time() + 9)

    asyncio.run(ask())
    assert ran == [4]


def test_no_more_rows_wait_than_may() -> None:
    held = threading.Event()

    def run(rows: Sequence[Row]) -> list[Output]:
        held.wait(10)
        return lengths(rows)

    async def ask() -> None:
        batcher, due = Batcher(run, Limits(tokens=4, wait=0, rows=3)), asyncio.get_running_loop().time() + 9
        batcher.start()
        taken = [asyncio.create_task(batcher.answers([row(4)], "a", due))]
        await asyncio.sleep(0.05)
        taken.append(asyncio.create_task(batcher.answers([row(4)] * 3, "a", due)))
        await asyncio.sleep(0)
        with pytest.raises(TooBusyError, match="3 rows wait already") as refused:
            await batcher.answers([row(4)], "b", due)
        assert refused.value.wait >= 1
        held.set()
        assert [len(found) for found in await asyncio.gather(*taken)] == [1, 3]
        await batcher.stop()

    asyncio.run(ask())


def test_where_a_batch_fails_those_that_can_be_run_are_answered() -> None:
    def run(rows: Sequence[Row]) -> list[Output]:
        if any(one.head == "bad" for one in rows):
            raise RuntimeError("shapes")
        return lengths(rows)

    rows = [row(1), row(2, "bad"), row(3, "b"), row(4, "bad"), row(5)]
    found = attempt(run, rows)
    assert [isinstance(one, BrokenAdapterError) for one in found] == [False, True, False, True, False]
    assert [one["length"].item() for one in found if isinstance(one, dict)] == [1, 3, 5]
