"""Scores that were claimed and measured, and leaderboards."""

from typing import Any

import pytest

from hub.server.api.conftest import lora
from hub.server.protocol.conftest import Asked

API = "/api/v1"
CARD = """---
tags: [adapterhub:sentiment/sst-2]
model-index:
- name: x
  results:
  - task: {type: text-classification}
    dataset: {type: sst-2, name: SST-2}
    metrics: [{type: accuracy, value: %s}]
---
"""


@pytest.fixture
def scored(asked: Asked) -> Asked:
    """Two adapters that claim something."""
    asked.publish("good", lora(card=CARD % 0.9))
    asked.publish("better", lora(seed=1, card=CARD % 0.95), user="bob")
    return asked


def commit(asked: Asked, name: str) -> str:
    return str(asked.client.get(f"{API}/adapters/{name}").json()["commit"])


def measure(asked: Asked, name: str, who: str, **more: Any) -> Any:
    body = {"commit": commit(asked, name), "task": "sentiment", "dataset": "sst-2", "metrics": {"accuracy": 0.92}}
    return asked.client.post(f"{API}/adapters/{name}/scores", json=body | more, headers=asked.as_(who))


def board(asked: Asked, **query: Any) -> list[tuple[str, float, bool, str | None]]:
    found = asked.client.get(f"{API}/leaderboards/sentiment/sst-2", params=query).json()
    assert found["metric"] == "accuracy" and [one["rank"] for one in found["places"]] == [
        *range(1, len(found["places"]) + 1)
    ]
    return [(one["adapter"]["id"], one["value"], one["verified"], one["by"]) for one in found["places"]]


def test_what_somebody_else_measured_comes_first(scored: Asked) -> None:
    assert board(scored) == [("bob/better", 0.95, False, None), ("ann/good", 0.9, False, None)]
    evidence = {"data_sha256": "0" * 64, "seed": 1}
    made = measure(scored, "ann/good", "bob", evidence=evidence, rows=872, split="validation").json()
    assert [(one["metric"], one["value"], one["verified"], one["by"]) for one in made] == [
        ("accuracy", 0.92, True, "bob")
    ]
    assert board(scored) == [("ann/good", 0.92, True, "bob"), ("bob/better", 0.95, False, None)]
    told = scored.client.get(f"{API}/adapters/ann/good").json()
    assert (told["score"], told["verified"]) == (0.92, True)
    assert {(one["value"], one["by"], one["rows"]) for one in told["scores"]} == {(0.92, "bob", 872), (0.9, None, None)}
    assert next(one for one in told["scores"] if one["verified"])["evidence"] == evidence


def test_what_the_owner_measured_stays_a_claim(scored: Asked) -> None:
    made = measure(scored, "ann/good", "ann").json()
    assert [(one["verified"], one["by"]) for one in made] == [(False, "ann")]
    assert all(not verified for _, _, verified, _ in board(scored))


def test_what_was_withdrawn_is_on_no_leaderboard(scored: Asked) -> None:
    path = f"{API}/adapters/bob/better/withdraw"
    assert scored.client.post(path, json={"reason": "wrong data"}, headers=scored.as_("bob")).status_code == 200
    assert [name for name, *_ in board(scored)] == ["ann/good"]


def test_numbers_hold_for_the_weights_that_were_measured(scored: Asked) -> None:
    old = commit(scored, "ann/good")
    measure(scored, "ann/good", "bob")
    scored.publish("good", lora(seed=5, card=CARD % 0.91))
    assert board(scored)[-1] == ("ann/good", 0.91, False, None)
    late = measure(scored, "ann/good", "bob", commit=old)
    assert late.status_code == 404 and "another adapter" in late.json()["detail"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"commit": "0" * 40}, 404),
        ({"commit": "main"}, 422),
        ({"task": "nothing"}, 404),
        ({"dataset": "nothing"}, 404),
        ({"metrics": {}}, 422),
        ({"metrics": {"accuracy": "NaN"}}, 422),
        ({"rows": 0}, 422),
        ({"intervals": {"accuracy": {"low": 0.9}}}, 422),
    ],
)
def test_measurements_that_are_none(scored: Asked, change: dict[str, Any], status: int) -> None:
    assert measure(scored, "ann/good", "bob", **change).status_code == status
