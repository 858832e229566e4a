"""Identifiers, over HTTP and by the client of the library."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from adapterhub.errors import AmbiguousAdapterError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.client.resolving import Found, OnHuggingFace, Wanted, resolve
from adapterhub.hub.server import repositories
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.database import Adapter
from adapterhub.hub.server.settings import Settings
from hub.server.protocol.conftest import Asked

ROBERTA = Fingerprint("roberta-base", None, "roberta", 8, 1, 50265, None, None, None)


def asking(asked: Asked, **question: Any) -> Any:
    return asked.client.post("/api/v1/resolve", json=question)


def test_a_coordinate_leads_to_a_commit_and_its_files(published: Asked) -> None:
    found = asking(published, identifier="sentiment/sst-2@ann").json()
    there = published.client.get("/api/v1/adapters/ann/movies").json()
    assert (found["repository"], found["commit"], found["files"]) == ("ann/movies", there["commit"], there["files"])
    assert found["verdict"] is None and found["kind"] == "adapter" and "by ann" in found["reasons"][0]
    for path in (one["path"] for one in found["files"]):
        assert published.client.get(f"/ann/movies/resolve/{found['commit']}/{path}").status_code == 200
    asked_by_address = published.client.get("/api/v1/resolve", params={"spec": "sentiment/sst-2@ann"}).json()
    assert asked_by_address == found


def test_the_base_model_decides_and_the_answer_says_so(published: Asked) -> None:
    for base, repository in (("roberta-base", "ann/movies"), ("google-bert/bert-base-uncased", "bob/films")):
        found = asking(published, identifier="sentiment/sst-2", base=base).json()
        assert (found["repository"], found["verdict"], found["flags"]) == (repository, "same-base", ["by-declaration"])
    body = {"identifier": "sentiment/sst-2", "fingerprint": ROBERTA.to_dict()}
    assert asking(published, **body).json()["repository"] == "ann/movies"
    none = asking(published, identifier="sentiment/sst-2@bob", base="roberta-base")
    assert none.status_code == 404 and "it does not fit roberta-base" in none.json()["detail"]


def test_of_several_equals_one_has_to_be_named(published: Asked) -> None:
    answer = asking(published, identifier="sst-2")
    problem = answer.json()
    assert answer.status_code == 300 and answer.headers["content-type"] == "application/problem+json"
    assert problem["candidates"] == ["sentiment/sst-2@ann (ann/movies)", "sentiment/sst-2@bob (bob/films)"]
    assert all(name in problem["detail"] for name in problem["candidates"])


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"identifier": "nobody/nothing"}, 404),
        ({"identifier": "sentiment/sst-2@carl"}, 404),
        ({"identifier": "ann/movies@v9"}, 404),
        ({"identifier": "ann/movies", "version": "v9"}, 404),
        ({"identifier": "ann/movies", "method": "ia3"}, 404),
        ({"identifier": "../etc/passwd"}, 400),
        ({"identifier": ""}, 400),
        ({"identifier": "a" * 256}, 422),
        ({"identifier": "ann/movies", "fingerprint": {"name": "x"}}, 422),
        ({"identifier": "ann/movies", "fingerprint": ROBERTA.to_dict() | {"probe": "not base64!"}}, 422),
        ({}, 422),
    ],
)
def test_what_cannot_be_resolved(published: Asked, question: dict[str, Any], status: int) -> None:
    answer = asking(published, **question)
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status and answer.json()["detail"]


def test_the_client_of_the_library_understands(published: Asked, by_client: str) -> None:
    found = resolve("sentiment/sst-2@ann", Wanted(fingerprint=ROBERTA), by_client)
    assert isinstance(found, Found) and found.repository == "ann/movies" and found.verdict == "same-base"
    assert set(found.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    with pytest.raises(AmbiguousAdapterError, match="bob/films"):
        resolve("sst-2", Wanted(), by_client)
    with pytest.raises(HubNotFoundError, match="no adapter ann/nothing"):
        resolve("ann/nothing", Wanted(), by_client)


def test_what_is_elsewhere_is_fetched_there(published: Asked, by_client: str) -> None:
    with published.hub.database.write() as session:
        repository = repositories.find(session, published.actor("bob"), "bob", "films")
        adapter = session.get_one(Adapter, repository.id)
        adapter.origin = {
            "hub": "https://huggingface.co",
            "name": "AdapterHub/films",
            "default_version": "1",
            "versions": [{"name": "1"}, {"name": "2"}],
        }
    assert resolve("bob/films", Wanted(), by_client) == OnHuggingFace("AdapterHub/films", "1")
    assert resolve("sentiment/sst-2@bob@2", Wanted(), by_client) == OnHuggingFace("AdapterHub/films", "2")
    assert published.client.get("/api/v1/adapters/bob/films").status_code == 200


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = create_app(Settings(directory=tmp_path_factory.mktemp("hub") / "hub"))
    with TestClient(app, base_url="http://hub.test") as client:
        yield client


names = st.one_of(
    st.text(max_size=20), st.sampled_from(["ann", "sst-2", "sentiment", "lang", "de", "main", "0" * 40, ".."])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.lists(names, max_size=4).map("/".join),
    suffixes=st.lists(names, max_size=3),
    first=st.sampled_from(["", "@"]),
    version=st.none() | names,
)
def test_any_text_has_an_answer(empty: Any, path: str, suffixes: list[str], first: str, version: str | None) -> None:
    text = "@".join([first + path, *suffixes])
    answer = empty.post("/api/v1/resolve", json={"identifier": text, "version": version})
    assert answer.status_code in (400, 404, 422), (text, answer.text)
    assert answer.json()["detail"]
