"""Hubs of these tests are on this machine: clients ask them, also where nothing else may be asked."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def reachable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield
