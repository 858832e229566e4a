"""The archived AdapterHub, where there is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.hub.server.catalogue import archive
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.postgres import Postgres


@pytest.fixture(scope="session")
def archived(data_root: Path) -> Path:
    """The index of the archived AdapterHub."""
    path = data_root / "hub_archive.tar.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, archived: Path, server: Postgres | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    """A hub with the whole archive, on either database, for all tests that change nothing."""
    if request.param == "postgresql" and server is None:
        pytest.skip("PostgreSQL is not installed")
    url = server.new() if server is not None and request.param == "postgresql" else ""
    hub = Hub.open(Settings(directory=tmp_path_factory.mktemp("filled"), database=url))
    assert archive.import_archive(hub, archived) == archive.Imported(new=291, updated=0, kept=0)
    yield hub
    hub.close()
