"""The application of a hub, asked without a network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapterhub.hub.server import accounts, blobs, commits, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Account, Commit
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


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., Asked]]:
    """Makes an application of a hub with given settings and the users ann and bob."""
    made: list[TestClient] = []

    def make(**settings: object) -> Asked:
        app = create_app(Settings(directory=tmp_path / "hub", **settings))  # type: ignore[arg-type]
        hub: Hub = app.state.hub
        tokens = {}
        with hub.database.write() as session:
            for name in ("ann", "bob"):
                user: Account = accounts.add_user(session, name, None)
                tokens[name] = accounts.new_token(session, user, "test", "write")
        made.append(TestClient(app, base_url="http://hub.test", raise_server_exceptions=True))
        return Asked(hub, made[-1], tokens)

    yield make
    for client in made:
        client.app.state.hub.close()  # type: ignore[attr-defined]


@pytest.fixture
def asked(ask: Callable[..., Asked]) -> Asked:
    """An application with default settings."""
    return ask()
