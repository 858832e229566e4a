"""Adapters in lists and in full."""

from hub.server.api.conftest import lora
from hub.server.protocol.conftest import Asked

API = "/api/v1/adapters"


def test_lists(published: Asked) -> None:
    found = published.client.get(API).json()
    print(found)
    one = published.client.get(f"{API}/ann/movies").json()
    print(one)
    print(published.client.post("/api/v1/resolve", json={"identifier": "ann/movies"}).json())
    assert 0
