"""The API of accounts, over HTTP."""

from typing import Any

import httpx
import pytest

from hub.server.running import Running


@pytest.fixture(scope="module")
def client(running: Running) -> Any:
    with httpx.Client(base_url=running.url) as made:
        yield made


def signed(running: Running, user: str, scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.token(user, scope)}"}


def test_tokens_are_made_used_and_revoked(running: Running, client: httpx.Client) -> None:
    admin = signed(running, "ann", "admin")
    made = client.post("/api/v1/tokens", json={"name": "laptop", "scope": "read", "days": 3}, headers=admin).json()
    mine = {"Authorization": f"Bearer {made['value']}"}
    me = client.get("/api/v1/me", headers=mine).json()
    assert (me["name"], me["scope"], me["organisations"]) == ("ann", "read", {})
    assert client.post("/api/v1/tokens", json={"name": "more"}, headers=mine).status_code == 403
    listed = client.get("/api/v1/tokens", headers=admin).text
    assert made["value"] not in listed and "laptop" in listed
    other = signed(running, "bob", "admin")
    assert client.delete(f"/api/v1/tokens/{made['id']}", headers=other).status_code == 404
    assert client.delete(f"/api/v1/tokens/{made['id']}", headers=admin).status_code == 204
    refused = client.get("/api/v1/me", headers=mine)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"


def test_organisations_keep_an_owner(running: Running, client: httpx.Client) -> None:
    ann, bob = signed(running, "ann", "admin"), signed(running, "bob", "admin")
    assert client.post("/api/v1/organisations", json={"name": "lab"}, headers=ann).status_code == 201
    assert client.post("/api/v1/organisations", json={"name": "LAB"}, headers=bob).status_code == 409
    assert client.post("/api/v1/organisations", json={"name": "explore"}, headers=bob).status_code == 400
    path = "/api/v1/organisations/lab/members"
    assert client.put(f"{path}/bob", json={"role": "owner"}, headers=bob).status_code == 403
    assert client.put(f"{path}/bob", json={"role": "write"}, headers=ann).status_code == 200
    assert client.delete(f"{path}/ann", headers=ann).status_code == 409
    assert client.put(f"{path}/bob", json={"role": "owner"}, headers=ann).status_code == 200
    assert client.delete(f"{path}/ann", headers=bob).status_code == 204
    assert client.get(path).json() == [{"name": "bob", "role": "owner"}]
