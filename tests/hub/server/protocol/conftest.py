"""The application of a hub, asked without a network."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapterhub.hub.server import accounts, blobs, commits, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Commit
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings


@dataclass
class Asked:
    """An application, and people who may ask it."""

    hub: Hub
    client: TestClient
    tokens: dict[str, str]

    def as_(self, user: str) -> dict[str, str]:
        """The headers of a user."""
        return {"Authorization": f"Bearer {self.tokens[user]}"}

    def actor(self, user: str) -> Actor:
        """A user as somebody who makes a request."""
        return accounts.by_token(self.hub.database, self.tokens[user])

    def publish(self, name: str, files: dict[str, bytes], *, private: bool = False, user: str = "ann") -> Commit:
        """Put files into a repository of a user, which is made if need be."""
        actor = self.actor(user)
        with self.hub.database.write() as session:
            try:
                repositories.find(session, actor, user, name)
            except LookupError:
                repositories.create(session, actor, user, name, private=private)
        changes = [Put(path, blobs.receive(self.hub, actor, data, path)) for path, data in files.items()]
        return commits.publish(self.hub, actor, user, name, "main", changes, Message("Change"))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a hub with the users ann and bob, to be copied, and their tokens."""
    folder = tmp_path_factory.mktemp("prepared") / "hub"
    return folder, people(Settings(directory=folder))


def people(settings: Settings) -> dict[str, str]:
    """Make a hub with the users ann and bob; returns their tokens, which may write."""
    hub = Hub.open(settings)
    tokens = {}
    with hub.database.write() as session:
        for name in ("ann", "bob"):
            tokens[name] = accounts.new_token(session, accounts.add_user(session, name, None), "test", "write")
    hub.close()
    return tokens


@pytest.fixture
def ask(tmp_path: Path, prepared: tuple[Path, dict[str, str]]) -> Iterator[Callable[..., Asked]]:
    """Makes an application of a hub with given settings and the users ann and bob."""
    made: list[Hub] = []

    def make(**settings: object) -> Asked:
        folder, tokens = prepared
        shutil.copytree(folder, tmp_path / "hub")
        app = create_app(Settings(directory=tmp_path / "hub", **settings))  # type: ignore[arg-type]
        made.append(app.state.hub)
        return Asked(app.state.hub, TestClient(app, base_url="http://hub.test"), tokens)

    yield make
    for hub in made:
        hub.close()


@pytest.fixture
def asked(ask: Callable[..., Asked]) -> Asked:
    """An application with default settings."""
    return ask()
