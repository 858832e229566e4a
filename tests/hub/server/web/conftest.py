"""The site of a hub, looked at without a network."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from httpx import Response
from starlette.testclient import TestClient

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings

PASSWORD = "a good long password"
ADDRESS = "http://hub.test"


@dataclass
class Site:
    """A hub, and a browser that keeps cookies but runs no scripts."""

    hub: Hub
    client: TestClient

    def get(self, path: str, **options: object) -> Response:
        """A page, without going where it leads."""
        return self.client.get(path, follow_redirects=False, **options)  # type: ignore[arg-type]

    def word(self, page: str = "/login") -> str:
        """What forms of a page bring along."""
        found = re.search(r'name="csrf" value="([^"]*)"', self.client.get(page).text)
        assert found is not None, page
        return unescape(found[1])

    def post(self, path: str, page: str, *, headers: dict[str, str] | None = None, **fields: str) -> Response:
        """Send a form of a page."""
        fields = {"csrf": self.word(page), **fields}
        return self.client.post(path, data=fields, headers=headers or {}, follow_redirects=False)

    def sign_in(self, name: str) -> "Site":
        """Sign in; who was signed in before is not any more."""
        self.client.cookies.clear()
        answer = self.post("/login", "/login", name=name, password=PASSWORD)
        assert answer.status_code == 303, answer.text
        return self

    def actor(self, name: str) -> Actor:
        """A user as somebody who makes a request."""
        with self.hub.database.read() as session:
            return accounts.actor(accounts.account(session, name))

    def new_browser(self) -> "Site":
        """Another browser at the same hub."""
        return Site(self.hub, TestClient(self.client.app, base_url=ADDRESS))


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a hub with the users ann, bob, and carol, who administers it; passwords are hashed in no time."""
    folder = tmp_path_factory.mktemp("people") / "hub"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        hub = Hub.open(Settings(directory=folder))
        with hub.database.write() as session:
            for name in ("ann", "bob", "carol"):
                accounts.add_user(session, name, PASSWORD, admin=name == "carol")
        hub.close()
        yield folder


@pytest.fixture
def make_site(tmp_path: Path, people: Path) -> Iterator[Callable[..., Site]]:
    """Makes a hub with the given settings, and these people."""
    made: list[Site] = []

    def make(**settings: object) -> Site:
        made.append(open_site(people, tmp_path / "hub", **settings))
        return made[-1]

    yield make
    for one in made:
        one.hub.close()


def open_site(people: Path, folder: Path, **settings: object) -> Site:
    """The site of a hub that begins like the one in another folder."""
    shutil.copytree(people, folder)
    app = create_app(Settings(directory=folder, **settings))  # type: ignore[arg-type]
    return Site(app.state.hub, TestClient(app, base_url=ADDRESS))


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()
