"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with public data sets, ``ADAPTERHUB_DATA``; tests that need it are skipped where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("ADAPTERHUB_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no public data at {root}; set ADAPTERHUB_DATA to their folder")
    return root
