"""Base models, and what fits them."""

import json
from typing import Any

import pytest

from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.server import accounts
from hub.server.protocol.conftest import Asked

API = "/api/v1"
ROBERTA = {"model_type": "roberta", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
PRINT = Fingerprint("roberta-base", "abc", "roberta", 8, 2, 50265, "s:1", "w:1", None).to_dict()


@pytest.fixture
def admin(asked: Asked) -> dict[str, str]:
    """The headers of who administers the hub."""
    with asked.hub.database.write() as session:
        user = accounts.add_user(session, "curator", None, admin=True)
        return {"Authorization": f"Bearer {accounts.new_token(session, user, 'test', 'admin')}"}


def fitting(asked: Asked, **question: Any) -> dict[str, list[str]]:
    groups = asked.client.post(f"{API}/compatible", json=question).json()
    assert all(one["count"] == len(one["items"]) for one in groups)
    return {one["verdict"]: [item["id"] for item in one["items"]] for one in groups}


def test_what_fits_is_grouped_by_how_well(published: Asked, admin: dict[str, str]) -> None:
    assert fitting(published, base="FacebookAI/roberta-base") == {"same-base": ["ann/movies"]}
    published.client.put(f"{API}/bases/roberta-base/config", json=ROBERTA, headers=admin)
    bert = ROBERTA | {"model_type": "bert"}
    published.client.put(f"{API}/bases/bert-base-uncased/config", json=bert, headers=admin)
    assert fitting(published, base="roberta-base") == {"same-base": ["ann/movies"], "shape": ["bob/films"]}
    assert fitting(published, config=bert) == {"shape": ["bob/films", "ann/movies"]}
    assert fitting(published, config=ROBERTA | {"hidden_size": 16}) == {}
    tuned = ROBERTA | {"_name_or_path": "roberta-base"}
    found = published.client.post(f"{API}/compatible", json={"config": tuned, "task": ["sentiment"]}).json()
    assert found[0]["verdict"] == "derived" and found[0]["trained_on"][0]["base"] == "roberta-base"
    assert any("finetune" in reason for reason in found[0]["trained_on"][0]["reasons"])
    assert fitting(published, config=tuned, task=["nli"]) == {}


def test_a_base_model_is_told(published: Asked, admin: dict[str, str]) -> None:
    assert published.client.get(f"{API}/bases").json()[0] == {
        "name": "bert-base-uncased",
        "model_type": "",
        "adapters": 1,
    }
    assert [one["name"] for one in published.client.get(f"{API}/bases", params={"q": "ROB"}).json()] == ["roberta-base"]
    published.client.put(
        f"{API}/bases/me/tuned/origin", json={"parent": "roberta-base", "relation": "finetune"}, headers=admin
    )
    tuned = published.client.get(f"{API}/bases/me/tuned").json()
    assert tuned["lineage"] == [{"name": "roberta-base", "relation": "finetune"}] and tuned["adapters"] == 0
    assert fitting(published, base="me/tuned") == {"derived": ["ann/movies"]}
    assert published.client.get(f"{API}/bases/nothing").status_code == 404


def test_weights_are_registered_by_name(published: Asked, admin: dict[str, str]) -> None:
    body, bob = {"name": "roberta-base", "fingerprint": PRINT}, published.as_("bob")
    assert published.client.post(f"{API}/bases", json=body).status_code == 401
    made = published.client.post(f"{API}/bases", json=body, headers=bob).json()
    assert (made["model_type"], made["hidden_size"], made["layers"]) == ("roberta", 8, 2)
    assert {"revision": "abc", "fingerprint": PRINT} in made["weights"]
    assert fitting(published, fingerprint=PRINT | {"name": "", "weights": "w:1"})["same-base"] == ["ann/movies"]
    published.client.put(f"{API}/bases/roberta-base/config", json=ROBERTA, headers=admin)
    wrong = body | {"fingerprint": PRINT | {"hidden_size": 9}}
    refused = published.client.post(f"{API}/bases", json=wrong, headers=bob)
    assert refused.status_code == 409 and "9" in refused.json()["detail"]
    path = body | {"name": "../../etc"}
    assert published.client.post(f"{API}/bases", json=path, headers=bob).status_code == 422


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({}, 400),
        ({"base": "nothing"}, 404),
        ({"config": {}}, 422),
        ({"config": {"model_type": "\ud800"}}, 422),
        ({"fingerprint": {}}, 422),
        ({"base": "roberta-base", "limit": 0}, 422),
    ],
)
def test_questions_that_are_none(published: Asked, question: dict[str, Any], status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = published.client.post(f"{API}/compatible", content=json.dumps(question), headers=headers)
    assert answer.status_code == status, answer.text


def test_only_who_administers_the_hub_tells_what_models_are(published: Asked) -> None:
    for path, body in (("config", ROBERTA), ("origin", {"parent": "x", "relation": "merge"})):
        for headers, status in (({}, 401), (published.as_("ann"), 403)):
            answer = published.client.put(f"{API}/bases/roberta-base/{path}", json=body, headers=headers)
            assert answer.status_code == status
