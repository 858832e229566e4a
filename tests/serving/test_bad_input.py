"""What cannot be answered is refused with an error that the API describes, and never with one of the server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapterhub.errors import ServingError
from adapterhub.serving import Client
from serving import making
from serving.conftest import Place, Served, start

ASKED = {"inputs": "the film was good", "adapter": "sentiment"}


@pytest.fixture(scope="module")
def broken(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has broken adapters among good ones."""
    folder = tmp_path_factory.mktemp("broken") / "adapters"
    shutil.copytree(place.adapters, folder)
    for name in ("cut", "numbers", "text"):
        shutil.copytree(place.adapters / "sentiment", folder / name)
    (weights,) = (folder / "cut").glob("adapter*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    (folder / "text" / "adapter_config.json").write_text("{")
    other = making.base(tmp_path_factory.mktemp("other") / "base", seed=3)
    making.save(making.model_with(other, ("sentiment",)), folder / "other")
    _overflowing(place, folder / "numbers")
    made = start(Place(place.base, folder, None), tmp_path_factory.mktemp("log") / "log")
    yield made
    made.stop()


def _overflowing(place: Place, folder: Path) -> None:
    model: Any = making.model_with(place.base, ("sentiment",))
    for parameter in model.adapters["sentiment"].parameters():
        parameter.data.fill_(1e38)
    shutil.rmtree(folder)
    model.save_adapter(folder, "sentiment")


def post(served: Served, path: str, content: bytes | Any) -> httpx.Response:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(f"{served.url}{path}", content=raw, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.mark.parametrize(
    ("status", "words", "content"),
    [
        (400, "parsing", b'{"inputs": "\xff\xfe", "adapter": "sentiment"}'),
        (422, "JSON", b"{"),
        (422, "no Unicode", b'{"inputs": "\\ud800", "adapter": "sentiment"}'),
        (413, "1,000,000 characters", ASKED | {"inputs": "a" * 1_000_000}),
        (413, "longer than 2,000,000 bytes", ASKED | {"inputs": "a" * 3_000_000}),
        (413, "257 inputs", ASKED | {"inputs": ["good"] * 257}),
        (422, "empty", ASKED | {"inputs": ""}),
        (422, "empty", ASKED | {"inputs": ["good", " \n"]}),
        (422, "no inputs", ASKED | {"inputs": []}),
        (404, "no adapter 'nothing'", ASKED | {"adapter": "nothing"}),
        (404, "no adapter '../base'", ASKED | {"adapter": "../base"}),
        (422, "has no head", ASKED | {"adapter": "german"}),
        (422, "the model itself has no head", {"inputs": "good"}),
        (422, "reads", ASKED | {"adapter": "answers"}),
        (422, "reads texts", ASKED | {"inputs": {"question": "is it", "context": "it is"}}),
        (422, "[MASK]", ASKED | {"adapter": "words"}),
        (422, "not both", ASKED | {"adapters": ["sentiment"]}),
        (422, "add up to 0", ASKED | {"adapter": {"average": ["sentiment", "topics"], "weights": [1, -1]}}),
        (422, "2 children and 1 weights", ASKED | {"adapter": {"average": ["sentiment", "topics"], "weights": [1]}}),
        (422, "stack", ASKED | {"adapter": {"stack": []}}),
        (422, "extra", ASKED | {"unknown": 1}),
    ],
)
def test_predictions_that_cannot_be_made(served: Served, status: int, words: str, content: Any) -> None:
    answer = post(served, "/v1/predict", content)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words.lower() in answer.json()["detail"].lower()
    assert set(answer.json()) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize(
    ("status", "name", "words"),
    [
        (422, "cut", "'cut'"),
        (422, "text", "'text'"),
        (422, "numbers", "no numbers"),
        (409, "other/sentiment", "made for another base model"),
    ],
)
def test_a_broken_adapter_is_an_error_of_its_own_requests_alone(
    broken: Served, place: Place, status: int, name: str, words: str
) -> None:
    with Client(broken.url) as client:
        with pytest.raises(ServingError, match=words) as refused:
            client.predict("the film was good", name)
        assert refused.value.status == status
        assert str(place.base.parent) not in str(refused.value)
        (answer,) = client.predict("the film was good", "sentiment")
        assert answer["label"] in ("good", "bad")
        state = {one["name"]: one["state"] for one in client.adapters()}
        assert state[name] == ("loaded" if name == "numbers" else "failed")


def test_paths_that_are_not_there_are_problems_too(served: Served) -> None:
    for answer in (httpx.get(f"{served.url}/nothing"), httpx.put(f"{served.url}/v1/predict")):
        assert answer.headers["content-type"] == "application/problem+json"
