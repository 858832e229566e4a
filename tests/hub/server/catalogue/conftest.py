"""The archived AdapterHub, where there is one."""

from pathlib import Path

import pytest


@pytest.fixture
def archived(data_root: Path) -> Path:
    """The index of the archived AdapterHub."""
    path = data_root / "hub_archive.tar.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path
