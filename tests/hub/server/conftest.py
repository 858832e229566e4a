"""A hub in a folder of its own, and people on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server import postgres
from hub.server.postgres import NotInstalledError, Postgres
from hub.server.running import Running, start


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres | None]:
    """A PostgreSQL for all tests; None where it is not installed."""
    try:
        with postgres.running("fsync=off", "synchronous_commit=off", "full_page_writes=off") as made:
            yield made
    except NotInstalledError:
        yield None


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the database, or "" for SQLite; ``on_both`` has a test run on both."""
    yield from database_of(request, getattr(request, "param", "sqlite"))


def database_of(request: pytest.FixtureRequest, kind: str) -> Iterator[str]:
    """The address of a new database, dropped afterwards; "" for SQLite."""
    if kind == "sqlite":
        yield ""
        return
    if (made := request.getfixturevalue("server")) is None:
        pytest.skip("PostgreSQL is not installed")
    url = made.new()
    yield url
    made.remove(url)


@pytest.fixture
def hub(tmp_path: Path, database: str) -> Iterator[Hub]:
    made = Hub.open(Settings(directory=tmp_path / "hub", database=database))
    yield made
    made.close()


@pytest.fixture
def ann(hub: Hub) -> Actor:
    return person(hub, "ann")


@pytest.fixture
def bob(hub: Hub) -> Actor:
    return person(hub, "bob")


def person(hub: Hub, name: str, *, admin: bool = False) -> Actor:
    with hub.database.write() as session:
        return accounts.actor(accounts.add_user(session, name, None, admin=admin))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the users ann and bob; one for all tests of a file."""
    made = start(tmp_path_factory.mktemp("served") / "hub")
    for name in ("ann", "bob"):
        made.add_user(name)
    yield made
    made.stop()
