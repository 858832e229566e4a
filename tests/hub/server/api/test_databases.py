"""What the API asks of the database, of SQLite and of PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapterhub.composition import Stack
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.server import accounts
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.settings import Settings
from hub.server.api.conftest import placed
from hub.server.postgres import on_both
from hub.server.protocol.conftest import Asked

API = "/api/v1"
PRINT = Fingerprint("roberta-base", None, "roberta", 8, 2, 50265, "s:1", "w:1", None).to_dict()


@pytest.fixture
def served(tmp_path: Path, database: str) -> Iterator[Asked]:
    """A hub on either database, with ann and bob."""
    app = create_app(Settings(directory=tmp_path / "hub", database=database))
    hub, tokens = app.state.hub, dict[str, str]()
    with hub.database.write() as session:
        for name in ("ann", "bob"):
            tokens[name] = accounts.new_token(session, accounts.add_user(session, name, None), "test", "write")
    yield Asked(hub, TestClient(app, base_url="http://hub.test"), tokens)
    hub.close()


@on_both
def test_either_database_gives_the_same_answers(served: Asked) -> None:
    get, bob = served.client.get, served.as_("bob")
    served.publish("open", placed("sentiment/sst-2"))
    served.publish("closed", placed("sentiment/hush", base="acme/hush", seed=1), private=True)
    assert get(f"{API}/adapters").json()["total"] == 1
    assert get(f"{API}/adapters", params={"q": "open"}).json()["items"][0]["coordinate"] == "sentiment/sst-2@ann"
    assert "hush" not in get(f"{API}/tasks/sentiment", headers=bob).text + get(f"{API}/bases").text
    assert "hush" in get(f"{API}/tasks/sentiment", headers=served.as_("ann")).text
    assert get(f"{API}/leaderboards/sentiment/hush", headers=bob).status_code == 404

    body = {"name": "roberta-base", "fingerprint": PRINT}
    assert served.client.post(f"{API}/bases", json=body, headers=bob).status_code == 201
    nameless = {"identifier": "sentiment/sst-2", "fingerprint": PRINT | {"name": ""}}
    found = served.client.post(f"{API}/resolve", json=nameless).json()
    assert (found["repository"], found["verdict"]) == ("ann/open", "same-base")

    measured = {"commit": found["commit"], "task": "sentiment", "dataset": "sst-2", "metrics": {"accuracy": 0.9}}
    assert served.client.post(f"{API}/adapters/ann/open/scores", json=measured, headers=bob).status_code == 201
    assert get(f"{API}/leaderboards/sentiment/sst-2").json()["places"][0]["by"] == "bob"

    recipe = {
        "format": "adapterhub-composition",
        "version": 1,
        "base": "roberta-base",
        "members": {"one": f"ann/open@{found['commit']}"},
        "composition": Stack("one").to_dict(),
    }
    served.publish("alone", {"composition.json": json.dumps(recipe).encode()}, user="bob")
    assert get(f"{API}/adapters/ann/open").json()["used_in"] == ["bob/alone"]
    assert get(f"{API}/resolve", params={"spec": "bob/alone"}).json()["members"][0]["repository"] == "ann/open"
