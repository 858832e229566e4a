"""Adapters from a hub: fetched when they are asked for, and there when the hub is not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import adapterhub
from adapterhub.errors import ServingError
from adapterhub.hub.client.account import login
from adapterhub.serving import Client
from hub.server.running import Running
from hub.server.running import start as start_hub
from serving import making
from serving.conftest import Place, Served

TEXT = "the film was very good"


@pytest.fixture
def hub(reachable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A hub with the user ann, who is logged in here."""
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    made = start_hub(tmp_path / "hub")
    made.add_user("ann")
    login(made.token("ann", "write"), made.url)
    yield made
    if made.process.poll() is None:
        made.stop()


def test_it_is_fetched_served_made_newer_and_stays_when_the_hub_is_gone(
    hub: Running, starting: Callable[..., Served], place: Place, tmp_path: Path
) -> None:
    for name in ("sentiment", "names"):
        place.model.save_adapter(tmp_path / name, name)
        adapterhub.push(tmp_path / name, f"ann/{name}", base="ann/base")
    (tmp_path / "none").mkdir()
    served = starting("--hub", hub.url, at=Place(place.base, tmp_path / "none", None))
    with Client(served.url) as client:
        before = client.predict(TEXT, "ann/sentiment")
        loaded = client.load("ann/sentiment")
        assert (loaded["source"], len(loaded["version"])) == ("hub", 40)

        newer = making.model_with(place.base, ("sentiment",), seed=7)
        newer.save_adapter(tmp_path / "newer", "sentiment")
        adapterhub.push(tmp_path / "newer", "ann/sentiment", base="ann/base")
        assert client.predict(TEXT, "ann/sentiment") == before
        assert client.load("ann/sentiment")["version"] != loaded["version"]
        after = client.predict(TEXT, "ann/sentiment")
        assert after != before

        with pytest.raises(ServingError) as unknown:
            client.predict(TEXT, "ann/nothing")
        assert unknown.value.status == 404
        hub.stop()
        assert client.predict(TEXT, "ann/sentiment") == after
        with pytest.raises(ServingError, match="does not answer") as gone:
            client.predict(TEXT, "ann/names")
        assert gone.value.status == 503
