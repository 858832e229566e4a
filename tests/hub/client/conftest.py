"""A hub that runs, and a client of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import disable_progress_bars

from adapterhub.hub.client.account import login
from hub.server.running import Running, start


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the users ann and bob, one for all tests."""
    made = start(tmp_path_factory.mktemp("served") / "hub", ADAPTERHUB_UPLOADS="auto")
    for name in ("ann", "bob"):
        made.add_user(name)
    yield made
    made.stop()


@pytest.fixture
def ann(served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The server, with ann logged in and nothing fetched yet."""
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTERHUB_HUBS", raising=False)
    disable_progress_bars()
    login(served.token("ann", "write"), served.url)
    return served
