"""The garbage collection takes what is of no use, and nothing else, whatever happens at the same time."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server import blobs, commits, pieces, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.commits import Message, Put, Remove
from adapterhub.hub.server.database import Blob, Piece, Tree, Upload, now
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import collecting
from adapterhub.hub.server.jobs.collecting import Collected, collect
from hub.server.conftest import database_of, person
from hub.server.running import run

AT_ONCE = timedelta(0)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from database_of(request, request.param)


@pytest.fixture
def ann(hub: Hub) -> Actor:
    made = person(hub, "ann")
    with hub.database.write() as session:
        repositories.create(session, made, "ann", "notes")
    return made


def publish(hub: Hub, ann: Actor, path: str, text: str) -> str:
    sha256 = blobs.receive(hub, ann, text.encode(), path)
    commits.publish(hub, ann, "ann", "notes", "main", [Put(path, sha256)], Message("Put"))
    return sha256


def count(hub: Hub) -> dict[str, int]:
    """How many there are of all that is collected."""
    with hub.database.read() as session:
        found = {
            kind.__tablename__: session.scalar(select(func.count()).select_from(kind)) or 0
            for kind in (Blob, Piece, Tree, Upload)
        }
    return found | {"stored": len(list(hub.store.listing())), "staged": len(list(hub.uploads.glob("*")))}


def read(hub: Hub, ann: Actor) -> dict[str, str]:
    """The files of the main branch."""
    with hub.database.read() as session:
        files = repositories.files(
            repositories.revision(session, repositories.find(session, ann, "ann", "notes"), "main")
        )
    return {path: hub.store.open(one.sha256).read().decode() for path, one in files.items()}


def test_what_was_never_published_goes_when_it_is_old(hub: Hub, ann: Actor) -> None:
    publish(hub, ann, "a.txt", "kept")
    blobs.receive(hub, ann, b"brought", "b.txt")
    with blobs.arriving(hub, [b"part"], "c") as file:
        pieces.keep(hub, ann, "t", "1", file)
    (hub.uploads / "0").write_bytes(b"left")
    (hub.uploads / "mirror").mkdir()
    (hub.uploads / "mirror" / "0").write_bytes(b"left")
    stray = hub.uploads / "1"
    stray.write_bytes(b"stray")
    hub.store.put("f" * 64, stray)
    before = count(hub)
    assert before == {"blob": 3, "piece": 1, "tree": 2, "upload": 1, "stored": 4, "staged": 2}
    assert collect(hub) == Collected()
    assert count(hub) == before
    done = collect(hub, AT_ONCE)
    assert done == Collected(uploads=1, pieces=1, trees=0, blobs=2, freed=11, strays=1, staged=2)
    assert count(hub) == {"blob": 1, "piece": 0, "tree": 2, "upload": 0, "stored": 1, "staged": 0}
    assert read(hub, ann) == {"a.txt": "kept"}
    assert collect(hub, AT_ONCE) == Collected()


def test_old_versions_stay_and_what_was_deleted_goes(hub: Hub, ann: Actor) -> None:
    for text in ("one", "two", "one"):
        publish(hub, ann, "a.txt", text)
    assert collect(hub, AT_ONCE) == Collected()
    with hub.database.write() as session:
        repositories.remove(session, ann, repositories.find(session, ann, "ann", "notes"))
    assert collect(hub, AT_ONCE) == Collected(trees=3, blobs=2, freed=6)
    assert set(count(hub).values()) == {0}


def test_bytes_that_are_gone_do_not_stop_it(hub: Hub, ann: Actor) -> None:
    hub.store.delete(blobs.receive(hub, ann, b"brought", "b.txt"))
    assert collect(hub, AT_ONCE).blobs == 1


def between(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], object]) -> None:
    """Have something happen after a step of the collection found what is of no use, before any of it goes."""
    step = getattr(collecting, name)

    def found(*arguments: object) -> object:
        made = list(step(*arguments))
        assert made
        happens()
        return made

    monkeypatch.setattr(collecting, name, found)


def test_what_is_published_meanwhile_stays(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs.receive(hub, ann, b"brought", "a.txt")
    with hub.database.write() as session:
        session.execute(update(Blob).values(used=now() - timedelta(days=2)))
        session.execute(update(Upload).values(created=now() - timedelta(days=2)))
    between(monkeypatch, "_unused", lambda: publish(hub, ann, "a.txt", "brought"))
    assert collect(hub) == Collected(uploads=1)
    assert read(hub, ann) == {"a.txt": "brought"}


def test_a_stray_that_comes_meanwhile_stays(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = publish(hub, ann, "a.txt", "mine")
    with hub.database.write() as session:
        session.query(Upload).delete()
        session.query(Blob).delete()
    old = time.time() - 200_000
    path = hub.store.path(sha256)
    assert path is not None
    os.utime(path, (old, old))
    between(monkeypatch, "_strays", lambda: blobs.receive(hub, ann, b"mine", "a.txt"))
    assert collect(hub) == Collected()
    assert hub.store.open(sha256).read() == b"mine"


def test_all_that_is_published_beside_it_is_whole(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes everything as soon as it may, while others bring, publish and delete the same few files."""
    monkeypatch.setattr(collecting, "_unstage", lambda hub, before: 0)  # it would take what is being written
    over = threading.Event()
    told: list[str] = []

    def write(name: str) -> None:
        for number in range(12):
            text = f"text {number % 3}"
            with suppress(UploadRefusedError, IntegrityError):  # it was taken before it was published
                sha256 = publish(hub, ann, name, text)
                told.append(sha256)
                if number % 4 == 3:
                    commits.publish(hub, ann, "ann", "notes", "main", [Remove(name)], Message("Remove"))

    def sweep() -> None:
        while not over.is_set():
            collect(hub, AT_ONCE)

    with ThreadPoolExecutor() as threads:
        sweeper = threads.submit(sweep)
        writers = [threads.submit(write, f"{number}.txt") for number in range(3)]
        for one in writers:
            one.result()
        over.set()
        sweeper.result()
    assert told
    assert all(hub.store.exists(sha256) for sha256 in told)
    with hub.database.read() as session:
        for tree in session.scalars(select(Tree)):
            for _, sha256, size, _ in tree.files.values():
                assert len(hub.store.open(sha256).read()) == size


def test_the_command_says_what_went(hub: Hub, ann: Actor) -> None:
    if not hub.database.is_sqlite:
        pytest.skip("the command line is the same for all databases")
    blobs.receive(hub, ann, b"brought", "a.txt")
    folder = str(hub.settings.directory)
    assert json.loads(run("hub", "gc", "--dir", folder, "--hours", "0", "--json"))["freed"] == 7
