"""Adapters of a hub, tried on a server of predictions, both of which run: the answer is that of the model itself."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from huggingface_hub.utils import disable_progress_bars
from transformers import AutoTokenizer

import adapterhub
from adapterhub.hub.server import accounts
from adapterhub.hub.server.web.visitor import SESSION
from adapterhub.training.classifier import predict
from hub.server.running import Running
from hub.server.running import start as start_hub
from hub.server.web.test_trying import words
from serving import making
from serving.conftest import Place
from serving.conftest import start as start_serving

TEXT, TOKEN = "a good film", "of-the-server"
PAIR = ("the plot is bad", "the music was great and the end of the story is good")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A hub with adapters of ann, and a server that fetches them as bob, who belongs to the organisation lab."""
    folder = tmp_path_factory.mktemp("tried")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as ended:
        patch.setenv("ADAPTERHUB_HOME", str(folder / "of-bob"))
        first = start_hub(folder / "hub")
        ended.callback(first.process.kill)
        first.add_user("ann")
        first.add_user("bob")
        with first._hub() as opened, opened.database.write() as session:
            ann, bob = (accounts.account(session, name) for name in ("ann", "bob"))
            lab = accounts.add_organisation(session, "lab", ann.id)
            accounts.set_role(session, lab, bob, "read")
        adapterhub.login(first.token("bob", "read"), first.url)
        place = Place(making.base(folder / "base"), folder / "none", None)
        place.adapters.mkdir()
        serving = start_serving(place, folder / "log", "--hub", first.url, tokens=f'["{TOKEN}"]')
        ended.callback(serving.stop)
        patch.setenv("ADAPTERHUB_HOME", str(folder / "of-ann"))
        disable_progress_bars()
        adapterhub.login(first.token("ann"), first.url)
        model = making.model_with(place.base)
        model.push_adapter_to_hub("ann/sentiment", "sentiment", base="tiny/bert")
        model.push_adapter_to_hub("lab/sentiment", "sentiment", base="tiny/bert", private=True)
        model.push_adapter_to_hub("ann/alone", "sentiment", base="tiny/bert", private=True)
        model.push_adapter_to_hub("ann/names", "names", base="tiny/bert")
        model.push_adapter_to_hub("ann/words", "words", base="tiny/bert")
        model.push_adapter_to_hub("ann/vectors", "vectors", base="tiny/bert")
        model.push_adapter_to_hub("ann/answers", "answers", base="tiny/bert")
        model.push_adapter_to_hub("ann/german", "german", base="tiny/bert")
        port = int(first.url.rpartition(":")[2])
        first.stop()
        attached = {"ADAPTERHUB_SERVING_URL": serving.url, "ADAPTERHUB_SERVING_TOKEN": TOKEN}
        made = start_hub(folder / "hub", port=port, **attached)
        ended.callback(made.stop)
        yield made


def browser(hub: Running, user: str = "") -> httpx.Client:
    """A browser, with somebody signed in."""
    made = httpx.Client(base_url=hub.url, timeout=60)
    if user:
        with hub._hub() as opened, opened.database.write() as session:
            made.cookies.set(SESSION, accounts.new_session(session, accounts.account(session, user)))
    return made


def run(client: httpx.Client, name: str, first: str, second: str = "") -> httpx.Response:
    page = client.get(f"/{name}").text
    found = re.search(r'name="csrf" value="([^"]*)"', page)
    assert found is not None
    fields = {"csrf": found[1], "first": first, "second": second}
    return client.post(f"/{name}/try", data=fields, headers={"X-Part": "answer"})


def base_of(hub: Running) -> Path:
    """The folder of the model that is served."""
    return hub.folder.parent / "base"


def expected(base: Path, text: str | tuple[str, str] = TEXT) -> str:
    """What the model itself says, in the words of the page."""
    model = making.model_with(base)
    model.set_active_adapters("sentiment")
    model.active_head = "sentiment"
    (best,) = predict(model, AutoTokenizer.from_pretrained(base), [text])
    return f"Answer {best['label']} {best['score'] * 100:.1f} %"


def test_the_answer_is_that_of_the_model(hub: Running) -> None:
    with browser(hub) as client:
        answer = run(client, "ann/sentiment", TEXT)
        assert answer.status_code == 200, answer.text
        assert expected(base_of(hub)) in words(answer)
        both = run(client, "ann/sentiment", *PAIR)
        assert expected(base_of(hub), PAIR) in words(both)
        assert words(both) != words(answer)


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("names", (TEXT, ""), "Answer|It marks nothing"),
        ("words", ("a [MASK] film", ""), "Answer .* %"),
        ("words", ("a film", ""), "cannot be answered"),
        ("vectors", (TEXT, "a bad film"), "alike by"),
        ("answers", ("which film", TEXT), "Answer .* %"),
    ],
)
def test_all_kinds_of_heads_are_understood(hub: Running, name: str, given: tuple[str, str], shown: str) -> None:
    with browser(hub) as client:
        assert re.search(shown, words(run(client, f"ann/{name}", *given)))


def test_what_the_server_may_not_see_it_cannot_run(hub: Running) -> None:
    with browser(hub, "ann") as client:
        assert expected(base_of(hub)) in words(run(client, "lab/sentiment", TEXT))
        refused = run(client, "ann/alone", TEXT)
        assert refused.status_code == 502 and "perhaps its account may not see it" in words(refused)
    with browser(hub) as stranger:
        assert stranger.get("/lab/sentiment").status_code == 404
        assert "/ann/german/try" not in stranger.get("/ann/german").text
