"""Counts, suggestions, the tree, and what curators change in it."""

from typing import Any

import pytest

from adapterhub.hub.server import accounts
from hub.server.api.conftest import placed
from hub.server.protocol.conftest import Asked

API = "/api/v1"


@pytest.fixture
def admin(asked: Asked) -> dict[str, str]:
    """The headers of who administers the hub."""
    with asked.hub.database.write() as session:
        user = accounts.add_user(session, "curator", None, admin=True)
        return {"Authorization": f"Bearer {accounts.new_token(session, user, 'test', 'admin')}"}


def counts(values: list[dict[str, Any]]) -> dict[str, int]:
    return {one["value"]: one["count"] for one in values if one["count"]}


def test_facets_count_what_else_there_would_be(published: Asked) -> None:
    found = published.client.get(f"{API}/facets", params={"base": "roberta-base"}).json()
    assert counts(found["base"]) == {"roberta-base": 1, "bert-base-uncased": 1}  # the choice itself does not count
    assert counts(found["task"]) == {"sentiment": 1} and counts(found["method"]) == {"lora": 1}
    mine = published.client.get(f"{API}/facets", headers=published.as_("ann")).json()
    assert counts(mine["dataset"]) == {"sentiment/sst-2": 3}


def test_the_tree_is_walked_down(published: Asked) -> None:
    roots = published.client.get(f"{API}/explore").json()
    assert counts(roots["branches"]) == {"sentiment": 2} == counts(published.client.get(f"{API}/tasks").json())
    assert counts(published.client.get(f"{API}/languages").json()) == {}
    task = published.client.get(f"{API}/explore", params={"task": "sentiment"}).json()
    assert counts(task["branches"]) == {"sentiment/sst-2": 2}
    below = published.client.get(f"{API}/explore", params={"task": "sentiment", "base": "roberta-base"}).json()
    assert counts(below["branches"]) == {"sentiment/sst-2": 1} and counts(below["methods"]) == {"lora": 1}
    told = published.client.get(f"{API}/tasks/sentiment").json()
    assert {one["slug"]: one["count"] for one in told["datasets"] if one["count"]} == {"sst-2": 2}
    near = published.client.get(f"{API}/tasks/sentimant")
    assert near.status_code == 404 and "did you mean sentiment" in near.json()["detail"]


def test_what_is_typed_is_completed(published: Asked) -> None:
    found = published.client.get(f"{API}/suggest", params={"q": "sent"}).json()
    assert {"kind": "task", "name": "sentiment"}.items() <= found[0].items()
    found = published.client.get(f"{API}/suggest", params={"q": "movi"}).json()
    assert [(one["kind"], one["name"]) for one in found] == [("adapter", "ann/movies")]
    assert published.client.get(f"{API}/suggest", params={"q": " "}).json() == []


def test_curators_shape_the_tree(published: Asked, admin: dict[str, str]) -> None:
    client = published.client
    made = client.post(f"{API}/tasks", json={"slug": "Irony", "title": "Irony"}, headers=admin)
    assert made.status_code == 201 and made.json()["slug"] == "irony"
    assert client.post(f"{API}/tasks", json={"slug": "irony"}, headers=admin).status_code == 409
    new = {"slug": "tweets", "metric": "f1", "url": "https://example.org/"}
    assert client.post(f"{API}/tasks/irony/datasets", json=new, headers=published.as_("bob")).status_code == 201
    part = client.post(f"{API}/tasks/irony/datasets", json={"slug": "old", "parent": "tweets"}, headers=admin).json()
    assert part["parent"] == "tweets" and part["count"] == 0
    assert client.post(f"{API}/tasks/irony/datasets", json=new, headers=admin).status_code == 409
    path = f"{API}/tasks/irony/datasets/tweets"
    assert client.patch(path, json={"parent": "old"}, headers=admin).status_code == 400  # a part of itself
    assert client.patch(path, json={"url": "javascript:alert(1)"}, headers=admin).status_code == 422
    assert client.patch(path, json={"metric": "accuracy"}, headers=admin).json()["metric"] == "accuracy"
    renamed = client.patch(f"{API}/tasks/irony", json={"slug": "sarcasm"}, headers=admin).json()
    assert renamed["slug"] == "sarcasm" and len(renamed["datasets"]) == 2
    published.publish("jokes", placed("sarcasm/old"), user="bob")
    told = {one["slug"]: one["count"] for one in client.get(f"{API}/tasks/sarcasm").json()["datasets"]}
    assert told == {"tweets": 1, "old": 1}  # what is a part counts for the whole


def test_a_default_decides_between_equals(published: Asked, admin: dict[str, str]) -> None:
    published.publish("others", placed("sentiment/sst-2", seed=9), user="bob")
    question = {"identifier": "sentiment/sst-2", "base": "roberta-base"}
    assert published.client.post(f"{API}/resolve", json=question).status_code == 300
    for name in ("bob/others", "ann/movies"):
        assert published.client.put(f"{API}/adapters/{name}/default", headers=admin).status_code == 204
        found = published.client.post(f"{API}/resolve", json=question).json()
        assert found["repository"] == name and any("default" in reason for reason in found["reasons"])
