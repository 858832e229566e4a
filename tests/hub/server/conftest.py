"""A hub in a folder of its own, and people on it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.postgres import cluster, program
from hub.server.running import Running, start


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub.open(Settings(directory=tmp_path / "hub"))
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server."""
    if program("initdb") is None:
        pytest.skip("there is no PostgreSQL here")
    with cluster() as folder:
        yield folder


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The address of a new database on PostgreSQL."""
    name = f"hub_{secrets.token_hex(4)}"
    with psycopg.connect(host=postgres, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={postgres}"


@pytest.fixture(params=["sqlite", "postgresql"])
def either_hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    """A hub on each of the databases."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = Hub.open(Settings(directory=tmp_path / "hub", database=url))
    yield made
    made.close()
