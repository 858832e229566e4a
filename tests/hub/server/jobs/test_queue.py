"""The queue of jobs, and the threads that take from it."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from adapterhub.hub.server.database import Database, Job, now
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import queue, runner
from adapterhub.hub.server.jobs.kinds import Kind
from adapterhub.hub.server.jobs.runner import Runner
from hub.server.postgres import on_both
from processes import wait_for


def add(hub: Hub, kind: str, **more: Any) -> bool:
    with hub.database.write() as session:
        return queue.add(session, kind, **more)


def jobs(hub: Hub) -> list[Job]:
    with hub.database.read() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


@contextmanager
def runs(hub: Hub, **kinds: Kind) -> Iterator[None]:
    made = Runner(hub, kinds)
    made.start()
    yield
    made.stop()


@on_both
def test_each_job_is_taken_once_by_several_workers(hub: Hub) -> None:
    for number in range(60):
        add(hub, "count", arguments={"number": number})
    taken: Counter[int] = Counter()

    def work() -> None:
        database = Database(hub.settings.database_url)
        while (job := queue.take(database, ["count"])) is not None:
            taken[job.arguments["number"]] += 1
            queue.finish(database, job)
        database.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert taken == Counter(range(60))
    assert all(job.finished and not job.error for job in jobs(hub))


def test_of_a_key_one_job_waits_at_a_time(hub: Hub) -> None:
    assert add(hub, "a", key="a") and not add(hub, "a", key="a")
    job = queue.take(hub.database, ["a"])
    assert job is not None and not add(hub, "a", key="a")
    queue.finish(hub.database, job)
    assert add(hub, "a", key="a")


def test_a_job_of_a_worker_that_died_is_taken_again_and_lost_to_it(hub: Hub) -> None:
    add(hub, "a")
    dead = queue.take(hub.database, ["a"])
    assert dead is not None and queue.take(hub.database, ["a"]) is None
    with hub.database.write() as session:
        session.execute(update(Job).values(started=now() - queue.HOLD - timedelta(seconds=1)))
    heir = queue.take(hub.database, ["a"])
    assert heir is not None and heir.id == dead.id
    assert not queue.renew(hub.database, dead)
    queue.finish(hub.database, dead)  # it was not dead but slow: what it says does not count any more
    assert jobs(hub)[0].finished is None
    queue.finish(hub.database, heir)
    assert jobs(hub)[0].finished is not None


def test_what_fails_is_tried_again_later_and_given_up_in_the_end(hub: Hub) -> None:
    tried = []

    def fail(hub: Hub, arguments: dict[str, Any]) -> None:
        tried.append(now())
        raise ValueError("no luck")

    add(hub, "bad")
    with runs(hub, bad=Kind(fail, tries=2)):
        wait_for(lambda: jobs(hub)[0].error)
        waiting = jobs(hub)[0]
        assert waiting.finished is None and timedelta(seconds=5) < waiting.due - now() < timedelta(seconds=20)
        with hub.database.write() as session:
            session.execute(update(Job).values(due=now()))
        wait_for(lambda: jobs(hub)[0].finished)
    assert len(tried) == 2
    assert jobs(hub)[0].error == "ValueError: no luck"


def test_what_kills_workers_is_given_up(hub: Hub) -> None:
    add(hub, "bad")
    with hub.database.write() as session:
        session.execute(update(Job).values(attempts=2, started=now() - 2 * queue.HOLD))
    with runs(hub, bad=Kind(lambda hub, arguments: None, tries=2)):
        wait_for(lambda: jobs(hub)[0].finished)
    assert "died" in jobs(hub)[0].error


def test_slow_jobs_hold_up_no_other_and_regular_ones_come_again(hub: Hub) -> None:
    go_on = threading.Event()
    done: list[str] = []
    kinds = {
        "slow": Kind(lambda hub, arguments: done.append("slow") if go_on.wait(10) else None, slow=True),
        "quick": Kind(lambda hub, arguments: done.append("quick"), every=timedelta(seconds=0.1)),
    }
    add(hub, "slow")
    with runs(hub, **kinds):
        wait_for(lambda: done.count("quick") > 2)
        assert "slow" not in done
        go_on.set()
        wait_for(lambda: "slow" in done)
    assert len([job for job in jobs(hub) if job.kind == "quick" and job.finished is None]) == 1


def test_what_a_server_that_stops_has_not_done_is_done_by_the_next(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_STOP_SECONDS", 0.1)
    begun, end = threading.Event(), threading.Event()

    def work(hub: Hub, arguments: dict[str, Any]) -> None:
        begun.set()
        end.wait(10)

    add(hub, "long")
    with runs(hub, long=Kind(work, tries=1, slow=True)):
        begun.wait(10)
    again = queue.take(hub.database, ["long"])
    end.set()
    assert again is not None and again.attempt == 1
