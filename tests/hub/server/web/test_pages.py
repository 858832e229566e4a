"""What pages show, to whom, and where old addresses lead."""

import json
import re
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from sqlalchemy import select

import adapterhub
import tiny
from adapterhub.hub.server import repositories
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.database import Alias, Repository
from hub.server.web import demo
from hub.server.web.conftest import ADDRESS, Site, open_site

CARD = b"---\nlicense: mit\ntags: [adapterhub:sentiment/sst-2]\n---\n# My adapter\n\nIt is *good*.\n"


@pytest.fixture
def filled(site: Site) -> Site:
    """A hub with a public and a private adapter of ann's."""
    return _fill(site)


@pytest.fixture(scope="module")
def shown(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same, for tests that change nothing."""
    made = _fill(open_site(people, tmp_path_factory.mktemp("shown") / "hub"))
    yield made
    made.hub.close()


def _fill(site: Site) -> Site:
    ann = site.actor("ann")
    files = {"README.md": CARD, **demo.lora("roberta-base", layers=2)}
    demo.publish(site.hub, ann, "ann", "one", files)
    demo.publish(site.hub, ann, "ann", "unseen", files, private=True)
    return site


PUBLIC = [
    *("/", "/explore/tasks", "/explore/languages", "/explore/tasks/sentiment", "/explore/tasks/sentiment/sst-2"),
    *("/explore/languages/de", "/search", "/search?q=roberta", "/models", "/models/roberta-base", "/leaderboards"),
    *("/leaderboards/sentiment/sst-2", "/compare?id=ann/one", "/docs", "/ann", "/ann/one", "/ann/one/tree/main"),
    *("/ann/one/commits/main", "/ann/one/version/main", "/ann/one/blob/main/README.md", "/login", "/feed.xml"),
]


@pytest.mark.parametrize("path", PUBLIC)
def test_a_stranger_sees_what_is_public_and_nothing_of_what_is_private(shown: Site, path: str) -> None:
    answer = shown.client.get(path)
    assert answer.status_code == 200, answer.text
    assert "unseen" not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?! src=\"/static/)| style=|\son\w+=|<style", answer.text)


def test_what_is_private_is_not_there_for_others(shown: Site) -> None:
    bob, ann = shown.new_browser().sign_in("bob"), shown.new_browser().sign_in("ann")
    for path in ("", "/tree/main", "/commits/main", "/version/main", "/blob/main/README.md", "/settings"):
        missing, hidden = bob.get(f"/ann/missing{path}"), bob.get(f"/ann/unseen{path}")
        assert (hidden.status_code, missing.status_code) == (404, 404), path
        assert hidden.text.replace("unseen", "missing") == missing.text, path
        assert ann.get(f"/ann/unseen{path}").status_code == 200, path


def test_others_change_nothing(filled: Site) -> None:
    filled.sign_in("bob")
    assert filled.get("/ann/one/settings").status_code == 403
    for do in ("visibility", "move", "tag", "delete"):
        fields = {"do": do, "private": "yes", "owner": "bob", "name": "mine", "tag": "v1", "confirm": "ann/one"}
        assert filled.post("/ann/one/settings", "/settings", **fields).status_code == 403, do
    assert filled.get("/ann/one").status_code == 200


def test_who_owns_it_tags_renames_hides_and_deletes_it(filled: Site) -> None:
    filled.sign_in("ann")
    page = "/ann/one/settings"
    assert filled.post(page, page, do="tag", tag="v1").status_code == 303
    assert "v1" in filled.get("/ann/one").text
    moved = filled.post(page, page, do="move", owner="ann", name="two")
    assert moved.headers["location"] == "/ann/two?said=moved"
    assert filled.get("/ann/one").headers["location"] == "/ann/two"
    page = "/ann/two/settings"
    assert filled.post(page, page, do="visibility", private="yes").status_code == 303
    assert filled.new_browser().get("/ann/two").status_code == 404
    assert filled.post(page, page, do="delete", confirm="two").status_code == 400
    assert filled.post(page, page, do="delete", confirm="ann/two").headers["location"] == "/ann?said=deleted"
    assert filled.get("/ann/two").status_code == 404


def test_code_to_copy_names_the_commit(shown: Site) -> None:
    text = shown.get("/ann/one").text
    codes = [unescape(one) for one in re.findall(r"<code>(.*?)</code>", text, re.DOTALL)]
    oid = re.search(r"/ann/one/commit/([0-9a-f]{40})", text)
    assert oid is not None
    load = next(one for one in codes if "load_adapter" in one)
    assert f'"ann/one@{oid[1]}"' in load and 'from_pretrained("roberta-base")' in load
    compile(load, "load", "exec")
    assert any(f"/ann/one/resolve/{oid[1]}/adapter_model.safetensors" in one for one in codes)


def test_likes_are_counted_once_each(filled: Site) -> None:
    for name in ("ann", "bob", "bob"):
        filled.sign_in(name)
        filled.post("/ann/one/like", "/ann/one", liked="yes", next="/ann/one")
    assert re.search(r"Like <b>2</b>", filled.get("/ann/one").text)
    filled.post("/ann/one/like", "/ann/one", liked="no", next="/ann/one")
    assert re.search(r"Like <b>1</b>", filled.get("/ann/one").text)
    stranger = filled.new_browser()
    assert stranger.post("/ann/one/like", "/login", liked="yes").headers["location"].startswith("/login")
    assert filled.post("/ann/unseen/like", "/ann/one", liked="yes").status_code == 404


def test_counts_at_every_step(shown: Site) -> None:
    def count(page: str, link: str) -> int:
        found = re.search(rf'href="{re.escape(link)}".*?class="count">([\d,]+)<', shown.get(page).text, re.DOTALL)
        assert found is not None, (page, link)
        return int(found[1])

    assert count("/", "/explore/tasks/sentiment") == 1
    assert count("/explore/tasks", "/explore/tasks/sentiment") == 1
    assert count("/explore/tasks/sentiment", "/explore/tasks/sentiment/sst-2") == 1
    assert "1 adapter" in shown.get("/explore/tasks/sentiment/sst-2?base=roberta-base").text
    assert "0 adapters" in shown.get("/explore/tasks/sentiment/sst-2?base=gpt2").text


def test_a_task_in_the_place_of_a_language_leads_on(shown: Site) -> None:
    assert shown.get("/explore/languages/sentiment").headers["location"] == "/explore/tasks/sentiment"
    assert shown.get("/explore/tasks/nosuch").status_code == 404
    assert shown.get("/explore/tasks/sentiment/nosuch").status_code == 404


FORMER = [
    ("/explore/text_task/", "/explore/tasks"),
    ("/explore/text_lang/", "/explore/languages"),
    ("/explore/sentiment/sst-2/", "/explore/tasks/sentiment/sst-2"),
    ("/explore/de/wiki/", "/explore/languages/de/wiki"),
    ("/explore/sentiment/sst-2/bert/bert-base-uncased/", "/explore/tasks/sentiment/sst-2?base=bert-base-uncased"),
    ("/explore/sentiment/sst-2/bart/facebook/bart-base/", "/explore/tasks/sentiment/sst-2?base=facebook%2Fbart-base"),
    ("/adapters/ukp/bert-sst/", "/ann/one"),
    ("/adapters/UKP/bert-sst", "/ann/one"),
]


def test_addresses_of_adapterhub_lead_on(filled: Site) -> None:
    with filled.hub.database.write() as session:
        one = session.scalars(select(Repository).where(Repository.key == "ann/one")).one()
        session.add(Alias(spec="@ukp/bert-sst", repository_id=one.id))
    for old, new in FORMER:
        answer = filled.get(old)
        assert (answer.status_code, answer.headers["location"]) == (308, new), old


def test_suggestions_lead_to_pages(shown: Site) -> None:
    found = shown.get("/search/suggest", params={"q": "sent"}).json()
    assert {"path": "/explore/tasks/sentiment", "title": "Sentiment Analysis", "note": "task"} in found
    for one in found:
        assert shown.client.get(one["path"]).status_code == 200, one


def test_a_pasted_configuration_is_answered(shown: Site) -> None:
    config = {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 50265}
    config |= {"num_attention_heads": 12, "intermediate_size": 3072}
    answer = shown.post("/models", "/models", config=json.dumps(config), name="my-roberta")
    assert answer.status_code == 200 and "my-roberta" in answer.text
    for bad in ("{", "[]", '{"a": 1}', "[" * 5000):
        refused = shown.post("/models", "/models", config=bad)
        assert refused.status_code == 422 and 'role="alert"' in refused.text, bad


def test_the_feed_is_atom(shown: Site) -> None:
    answer = shown.get("/feed.xml")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.content)
    atom = "{http://www.w3.org/2005/Atom}"
    assert [one.text for one in root.iterfind(f"{atom}entry/{atom}title")] == ["ann/one"]
    assert root.find(f"{atom}entry/{atom}link").get("href") == f"{ADDRESS}/ann/one"  # type: ignore[union-attr]


def test_what_is_not_there_is_a_page(site: Site) -> None:
    for path in ("/nobody", "/no/body", "/static/no.css", "/static/..%2Frendering.py", "/ann/one/commit/" + "0" * 40):
        answer = site.get(path)
        assert answer.status_code == 404 and "There is nothing here" in answer.text, path


def test_an_error_of_ours_is_a_page_with_its_headers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(taxonomy, "task", fail)
    site.client._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    answer = site.get("/explore/tasks/sentiment")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_files_that_never_change_are_kept(site: Site) -> None:
    link = re.search(r'href="(/static/site.css\?v=\w+)"', site.get("/").text)
    assert link is not None
    assert "immutable" in site.get(link[1]).headers["cache-control"]


def test_a_composition_is_drawn_and_loaded_as_one(site: Site, tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model("roberta"))
    for name in ("lower", "upper", "beside"):
        model.add_adapter(name, config="seq_bn")
    setup = adapterhub.Stack("lower", adapterhub.Parallel("upper", "beside"))
    model.save_adapter_setup(tmp_path / "both", setup)
    folder = tmp_path / "both"
    files = {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    demo.publish(site.hub, site.actor("ann"), "ann", "both", {"README.md": b"---\nbase_model: tiny\n---\n", **files})
    text = site.get("/ann/both").text
    assert "load_adapter_setup(" in unescape(text)
    drawn = re.search(r'<ul class="composition">(.*?)</section>', text, re.DOTALL)
    assert drawn is not None
    words = re.findall(r'<p>(\w+)</p>|class="leaf">(\w+)<', drawn[1])
    assert [one or other for one, other in words] == ["Stack", "lower", "Parallel", "upper", "beside"]
    assert "ann/both" in unescape(re.sub("<.*?>", "", site.client.get("/compositions").text))


def test_files_of_private_adapters_come_to_who_may_see_them(site: Site) -> None:
    picture = BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "PNG")
    files = {"README.md": b"![plot](plot.png)\n", "plot.png": picture.getvalue()}
    files |= demo.lora("roberta-base", layers=1)
    demo.publish(site.hub, site.actor("ann"), "ann", "unseen", files, private=True)
    ann = site.new_browser().sign_in("ann")
    answer = ann.get("/ann/unseen/download/main/adapter_model.safetensors")
    assert answer.content == files["adapter_model.safetensors"]
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    for other in (site, site.new_browser().sign_in("bob")):
        assert other.get("/ann/unseen/download/main/adapter_model.safetensors").status_code == 404
    assert ann.get("/ann/unseen/download/main/no.png").status_code == 404
    found = re.search(r'<img src="(/ann/unseen/download/[0-9a-f]{40}/plot.png)"', ann.get("/ann/unseen").text)
    assert found is not None
    shown = ann.get(found[1])
    assert (shown.content, shown.headers["content-type"]) == (picture.getvalue(), "image/png")


def test_a_composition_of_pinned_adapters_leads_to_them_and_they_to_it(site: Site) -> None:
    demo.fill(site.hub)
    text = site.get("/stitch-lab/mnli-then-sst2").text
    assert re.findall(r'class="leaf">([^<]+)<', text) == ["mnli", "sst-2"]
    paths = re.findall(r'href="(/[^"]+/version/[0-9a-f]{40})">(?:ada|stitch-lab)/', text)
    assert len(paths) == 2 and all(site.get(path).status_code == 200 for path in paths)
    assert "acts on queries, values" in text
    assert 'href="/stitch-lab/mnli-then-sst2"' in site.get("/ada/roberta-base-mnli-lora-all").text
    ada = site.actor("ada")
    with site.hub.database.write() as session:
        repositories.remove(session, ada, repositories.find(session, ada, "ada", "roberta-base-mnli-lora-all"))
    assert "The composition needs ada/roberta-base-mnli-lora-all@" in site.get("/stitch-lab/mnli-then-sst2").text
