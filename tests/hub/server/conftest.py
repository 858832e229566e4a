"""A hub in a folder of its own, and people on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
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
