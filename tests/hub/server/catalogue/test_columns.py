"""The columns in memory are what the tables hold, whoever has changed these in whatever way."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.catalogue import columns, indexing
from adapterhub.hub.server.database import Account, Adapter, Repository
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue import making
from hub.server.catalogue.making import Made
from hub.server.postgres import on_both

STEPS = ("add", "remove", "hide", "withdraw", "move", "download", "change", "plainly", "forget", "nothing", "give up")


@pytest.fixture
def another(hub: Hub) -> Iterator[Hub]:
    """Another worker on the same database."""
    made = Hub.open(hub.settings)
    yield made
    made.close()


@on_both
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5), making.one(("ann", "bob"))), max_size=12))
def test_columns_are_the_tables(
    hub: Hub, another: Hub, ann: Actor, bob: Actor, steps: list[tuple[str, int, Made]]
) -> None:
    making.fill(hub, [])
    for turn, (step, which, made) in enumerate(steps):
        worker = (hub, another)[turn % 2]
        change(worker, step, which, made, ann)
        if which % 2:  # else several changes are seen at once
            for one in (hub, another):
                with one.database.read() as session:
                    assert kept(session) == there(session)
    for one in (hub, another):
        with one.database.read() as session:
            assert kept(session) == there(session)


def change(hub: Hub, step: str, which: int, made: Made, ann: Actor) -> None:
    """One of the things that happen on a hub."""
    admin = Actor(ann.id, ann.name, "admin", is_admin=True)
    try:
        with hub.database.write() as session:
            ids = session.scalars(select(Repository.id).order_by(Repository.id)).all()
            found = session.get(Repository, ids[which % len(ids)]) if ids else None
            if step == "add" or found is None:
                making.add(session, made)
            elif step == "remove":
                repositories.remove(session, admin, found)
            elif step == "hide":
                repositories.set_private(session, admin, found, not found.private)
            elif step == "withdraw":
                repositories.withdraw(session, admin, found, None if found.withdrawn else "wrong")
            elif step == "move":
                repositories.move(session, admin, found, "bob", f"moved{found.id}")
            elif step == "download":
                found.downloads += 1
            elif step == "change" and (row := session.get(Adapter, found.id)) is not None:
                row.method, row.license, row.merit = made.method, made.license, made.merit
            elif step == "plainly":
                session.execute(text("UPDATE repository SET likes = likes + 1"))
                session.execute(text("UPDATE adapter SET size = size + 1"))
            elif step == "forget":
                indexing.forget(session, found.id)
            elif step == "give up":
                making.add(session, made)
                session.flush()
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def kept(session: Session) -> Counter[Any]:
    found = columns.of(session)
    places = np.flatnonzero(found.alive)
    assert [found.place[found.ids[place]] for place in places] == list(places)
    texts = {name: list(found.codes[name]) for name in columns.NAMES}
    numbers = ("owner", "private", "withdrawn", "verified", "size", "downloads", "likes", "base", "task", "dataset")
    numbers += ("merit",)
    return Counter(
        (
            int(found.ids[place]),
            *(texts[name][found[name][place]] for name in columns.NAMES),
            *(found[name][place].item() for name in numbers),
            found["updated"][place].item(),
        )
        for place in places
    )


def there(session: Session) -> Counter[Any]:
    return Counter(
        (
            one.repository_id,
            *(getattr(one, name) for name in columns.NAMES),
            one.repository.owner_id,
            one.repository.private,
            one.repository.withdrawn is not None,
            one.verified,
            one.size,
            one.repository.downloads,
            one.repository.likes,
            one.base_id or 0,
            one.task_id or 0,
            one.dataset_id or 0,
            float("-inf") if one.merit is None else one.merit,
            one.repository.updated.timestamp(),
        )
        for one in session.scalars(select(Adapter))
    )


@on_both
def test_a_change_that_is_not_committed_is_not_seen(hub: Hub, ann: Actor) -> None:
    making.fill(hub, [Made()])
    with hub.database.write() as session:
        making.add(session, Made())
        session.flush()
        assert columns.of(session).alive.sum() == 1
    with hub.database.read() as session:
        assert columns.of(session).alive.sum() == 2


@on_both
def test_a_transaction_that_began_early_and_ends_late_is_seen(hub: Hub, ann: Actor) -> None:
    """Of two that overlap, the one that got its number first may be the last to be committed."""
    if hub.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    making.fill(hub, [Made(), Made()])
    with hub.database.read() as session:
        first, second = session.scalars(select(Repository.id).order_by(Repository.id)).all()
    early, late = Session(hub.database.engine), Session(hub.database.engine)
    early.get_one(Repository, first).downloads = 7
    early.flush()
    late.get_one(Repository, second).downloads = 8
    late.commit()
    with hub.database.read() as session:
        assert sorted(columns.of(session)["downloads"]) == [0, 8]
    early.commit()
    with hub.database.read() as session:
        assert sorted(columns.of(session)["downloads"]) == [7, 8]
    early.close()
    late.close()


def test_what_is_looked_at_does_not_change_under_the_eyes(hub: Hub, ann: Actor) -> None:
    making.fill(hub, [Made(downloads=1)])
    with hub.database.read() as session:
        before = columns.of(session)
    with hub.database.write() as session:
        session.scalars(select(Account).limit(1)).one()
        session.execute(text("UPDATE repository SET downloads = 5"))
        making.add(session, Made())
    with hub.database.read() as session:
        assert columns.of(session)["downloads"].tolist() == [5, 0]
    assert before["downloads"].tolist() == [1]


def test_a_server_reads_ahead(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    making.fill(hub, [Made()])
    read = threading.Event()
    newest = columns._Kept.newest
    monkeypatch.setattr(columns._Kept, "newest", lambda *given: (newest(*given), read.set())[0])
    with TestClient(create_app(hub.settings)) as client:
        assert read.wait(20)  # though nobody has asked for anything
        assert client.get("/health").status_code == 200
