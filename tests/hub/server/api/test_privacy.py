"""What is private is told to nobody else, by any route."""

import json
from typing import Any

import pytest
from sqlalchemy import update

from adapterhub.hub.server import repositories
from adapterhub.hub.server.database import BaseModel
from hub.server.api.conftest import lora
from hub.server.api.description import description
from hub.server.protocol.conftest import Asked

# None of these words may be in an answer to somebody else; they are in the name, place, base model, tags and card.
SECRETS = ("hushname", "hushdata", "hushbase", "hushtag", "hushcard", "hushold", "hushalias")
CARD = """---
tags: [adapterhub:sentiment/hushdata, hushtag]
---
# hushcard
"""
ADDRESSES = [
    ("GET", "/api/v1/adapters?q=hush"),
    ("GET", "/api/v1/adapters?owner=ann&limit=100"),
    ("GET", "/api/v1/adapters?tag=hushtag"),
    ("GET", "/api/v1/adapters?compatible_with=acme/hushbase"),
    ("GET", "/api/v1/adapters/ann/hushname"),
    ("GET", "/api/v1/adapters/ann/hushold"),
    ("GET", "/api/v1/facets"),
    ("GET", "/api/v1/facets?owner=ann"),
    ("GET", "/api/v1/suggest?q=hush&limit=50"),
    ("GET", "/api/v1/suggest?q=acme"),
    ("GET", "/api/v1/suggest?q=sentiment"),
    ("GET", "/api/v1/tasks"),
    ("GET", "/api/v1/tasks/sentiment"),
    ("GET", "/api/v1/explore?task=sentiment"),
    ("GET", "/api/v1/explore"),
    ("GET", "/api/v1/bases"),
    ("GET", "/api/v1/bases?q=hush"),
    ("GET", "/api/v1/bases/acme/hushbase"),
    ("GET", "/api/v1/leaderboards/sentiment/hushdata"),
    ("GET", "/api/v1/leaderboards/sentiment/sst-2"),
    ("GET", "/api/v1/resolve?spec=ann/hushname"),
    ("GET", "/api/v1/resolve?spec=ann/HushName"),
    ("GET", "/api/v1/resolve?spec=ann/hushold"),
    ("GET", "/api/v1/resolve?spec=sentiment/hushdata@ann"),
    ("GET", "/api/v1/resolve?spec=sentiment/nothing@ann"),
    ("GET", "/api/v1/resolve?spec=sentiment"),
    ("GET", "/api/v1/resolve?spec=ann/open2"),
    ("GET", "/api/v1/accounts/ann"),
    ("GET", "/api/v1/adapters/ann/open"),
    ("PUT", "/api/v1/adapters/ann/hushname/like"),
    ("DELETE", "/api/v1/adapters/ann/hushname/withdraw"),
    ("GET", "/api/models"),
    ("GET", "/api/models?search=hush"),
    ("GET", "/api/users/ann/likes"),
]


@pytest.fixture
def hush(asked: Asked) -> Asked:
    """A hub where ann has a public adapter, and a private one that was called otherwise before."""
    asked.publish("open", lora(card="---\ntags: [adapterhub:sentiment/sst-2]\n---\n"))
    asked.publish("hushold", lora(base="acme/hushbase", seed=1, card=CARD), private=True)
    with asked.hub.database.write() as session:
        ann = asked.actor("ann")
        repository = repositories.find(session, ann, "ann", "hushold")
        repositories.move(session, ann, repository, "ann", "HushName")
        session.execute(update(BaseModel).values(hidden_size=8))  # so that each fits the other's adapters in shape
    asked.client.put("/api/v1/adapters/ann/hushname/like", headers=asked.as_("ann"))
    measured = {"commit": commit_of(asked), "task": "sentiment", "dataset": "hushdata", "metrics": {"accuracy": 0.9}}
    answer = asked.client.post("/api/v1/adapters/ann/hushname/scores", json=measured, headers=asked.as_("ann"))
    assert answer.status_code == 201, answer.text
    return asked


def commit_of(asked: Asked) -> str:
    return str(asked.client.get("/api/v1/adapters/ann/hushname", headers=asked.as_("ann")).json()["commit"])


@pytest.mark.parametrize("who", ["bob", None])
def test_nothing_of_it_is_told_to_others(hush: Asked, who: str | None) -> None:
    headers = {} if who is None else hush.as_(who)
    for method, address in ADDRESSES:
        same = hush.client.request(method, address.replace("hush", "lush").replace("Hush", "Lush"), headers=headers)
        answer = hush.client.request(method, address, headers=headers)
        said = json.dumps([dict(answer.headers), answer.text]).lower()
        for word in (one for one in SECRETS if one not in address.lower()):
            assert word not in said, (method, address, answer.text)
        if "hush" in address.lower():  # what is there and what is not are told in the same words
            told = answer.text.lower().replace("hush", "lush")
            assert (answer.status_code, told) == (same.status_code, same.text.lower()), (method, address)


def test_what_can_be_asked_in_a_body_tells_nothing_either(hush: Asked) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("resolve", {"identifier": "ann/hushname"}),
        ("resolve", {"identifier": "ann/open", "base": "acme/hushbase"}),
        ("compatible", {"base": "acme/hushbase"}),
        ("compatible", {"config": {"model_type": "roberta", "hidden_size": 8}}),
        ("adapters/ann/hushname/scores", {"commit": "0" * 40, "task": "nli", "dataset": "x", "metrics": {"f1": 1}}),
        ("adapters/ann/hushname/withdraw", {"reason": "x"}),
    ]
    for path, body in bodies:
        same = hush.client.post(
            f"/api/v1/{path.replace('hush', 'lush')}",
            json=json.loads(json.dumps(body).replace("hush", "lush")),
            headers=hush.as_("bob"),
        )
        answer = hush.client.post(f"/api/v1/{path}", json=body, headers=hush.as_("bob"))
        assert (answer.status_code, answer.text.replace("hush", "lush")) == (same.status_code, same.text), path


def test_it_is_told_to_whom_it_belongs_and_to_all_once_it_is_public(hush: Asked) -> None:
    ann = hush.as_("ann")
    assert [one["id"] for one in hush.client.get("/api/v1/adapters?q=hush", headers=ann).json()["items"]] == [
        "ann/HushName"
    ]
    assert hush.client.get("/api/v1/leaderboards/sentiment/hushdata", headers=ann).json()["places"][0]["value"] == 0.9
    for address in ("/api/v1/leaderboards/sentiment/hushdata", "/api/v1/bases/acme/hushbase"):
        assert hush.client.get(address).status_code == 404
    hush.client.put("/api/models/ann/HushName/settings", json={"private": False}, headers=ann)
    for address in ("/api/v1/leaderboards/sentiment/hushdata", "/api/v1/bases/acme/hushbase"):
        assert hush.client.get(address).status_code == 200, address
    assert {one["name"] for one in hush.client.get("/api/v1/suggest?q=hush").json()} == {
        "sentiment/hushdata",
        "ann/HushName",
    }


def test_every_route_without_a_name_of_its_own_is_looked_at() -> None:
    """A new list that is not among the addresses above would go unseen."""
    simple = {path for path, methods in description()["paths"].items() if "get" in methods and "{" not in path}
    known = {address.partition("?")[0] for _, address in ADDRESSES}
    about_oneself = {"/health", "/ready", "/metrics", "/api/v1/me", "/api/v1/tokens", "/api/v1/webhooks"}
    assert simple - known - about_oneself <= {"/api/v1/languages", "/api/v1/audit"}
