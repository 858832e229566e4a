"""Tests of the hub ask hubs."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def asking(reachable: None) -> None:
    """In all of them."""
