"""Adapters are tried on their pages, where somebody runs them."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from adapterhub.hub.server import predictions, repositories
from adapterhub.hub.server.web.pages import trying
from hub.server.answering import BASE, TOKEN, Answering, answering
from hub.server.web import demo
from hub.server.web.conftest import Site, open_site

FORM = 'action="/ann/one/try#try"'


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as made:
        yield made


@pytest.fixture(scope="module")
def filled(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hub with adapters of ann."""
    folder = tmp_path_factory.mktemp("heads") / "hub"
    site = open_site(people, folder)
    _fill(site)
    site.hub.close()
    return folder


@pytest.fixture
def attached(filled: Path, server: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A copy of it, with a server of predictions."""
    monkeypatch.setattr(predictions, "_KEPT_SECONDS", 0.0)
    made = open_site(filled, tmp_path / "hub", serving_url=f"{server.url}/", serving_token=TOKEN)
    yield made
    made.hub.close()


def _fill(site: Site) -> None:
    ann = site.actor("ann")
    for name, kind in (("one", "classification"), ("marks", "tagging"), ("asks", "question_answering")):
        demo.publish(site.hub, ann, "ann", name, demo.with_head(demo.bottleneck("roberta-base", name, layers=2), kind))
    for name, kind in (("alike", "sentence_embedding"), ("gaps", "masked_lm"), ("trees", "dependency_parsing")):
        demo.publish(site.hub, ann, "ann", name, demo.with_head(demo.bottleneck("roberta-base", name, layers=2), kind))
    pairs = demo.with_head(demo.bottleneck("roberta-base", "entails", layers=2), "classification")
    card = b"---\ntags: [adapterhub:nli/multinli]\n---\n# Entails\n"
    demo.publish(site.hub, ann, "ann", "entails", {**pairs, "README.md": card})
    demo.publish(site.hub, ann, "ann", "bare", demo.bottleneck("roberta-base", "bare", layers=2))
    other = demo.with_head(demo.bottleneck("google-bert/bert-base-uncased", "bert", layers=2), "classification")
    old, new = b'"model_type": "roberta"', b'"model_type": "bert"'
    demo.publish(site.hub, ann, "ann", "bert", {path: data.replace(old, new) for path, data in other.items()})
    mine = demo.with_head(demo.bottleneck("roberta-base", "mine", layers=2), "classification")
    demo.publish(site.hub, ann, "ann", "mine", mine, private=True)


def run(site: Site, first: str = "A great film", second: str = "", name: str = "one", **more: Any) -> Response:
    return site.post(f"/ann/{name}/try", f"/ann/{name}", first=first, second=second, **more)


def words(answer: Response) -> str:
    """What a person reads of an answer."""
    plain = re.sub(r"<svg.*?</svg>|<[^>]*>", " ", answer.text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(plain))


def test_what_is_typed_is_answered(attached: Site, server: Answering) -> None:
    page = attached.get("/ann/one")
    assert FORM in page.text and "style-src" not in page.text and 'style="' not in page.text
    attached.client.headers["Authorization"] = "Bearer of-the-visitor"
    answer = run(attached)
    assert answer.status_code == 200 and FORM in answer.text and "A great film</textarea>" in answer.text
    assert "Answer positive 93.0 % negative 7.0 %" in words(answer)
    ((headers, body),) = server.got
    commit = re.search(r'name="revision" value="([0-9a-f]{40})"', page.text)
    assert commit is not None
    assert body == {"inputs": ["A great film"], "adapter": f"ann/one@{commit[1]}"}
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "cookie" not in headers and "of-the-visitor" not in str(headers)
    part = run(attached, headers={"X-Part": "answer"})
    assert part.headers["X-Part"] == "answer" and "<html" not in part.text
    assert words(part).strip() == "Answer positive 93.0 % negative 7.0 %"


TOM = {"text": "Tom", "start": 0, "end": 3, "score": 0.9, "label": "PER"}
PARIS = {"text": "Paris", "start": 9, "end": 14, "score": 0.8, "label": "LOC"}


@pytest.mark.parametrize(
    ("name", "given", "asked", "output", "shown"),
    [
        ("one", ("a", "b"), {"text": "a", "text_pair": "b"}, {"scores": [{"label": "x", "score": 1}]}, "x 100.0 %"),
        ("one", ("a", ""), "a", {"scores": [{"label": "x", "score": 0.2}], "labels": []}, "None of these holds."),
        ("one", ("a", ""), "a", {"scores": [], "labels": ["x", "y"]}, "Of these hold: x, y"),
        ("one", ("a", ""), "a", {"value": 3.25}, "The value is 3.25 ."),
        ("one", ("a", ""), "a", {"scores": [], "truncated": True}, "its end was left out"),
        ("marks", ("Tom is in Paris", ""), "Tom is in Paris", {"spans": [TOM]}, "Answer Tom PER is in Paris"),
        (
            "marks",
            ("Tom in Paris", ""),
            "Tom in Paris",
            {"spans": [TOM, PARIS | {"start": 7, "end": 12}]},
            "in Paris LOC",
        ),
        ("marks", ("Tom", ""), "Tom", {"spans": [TOM, PARIS]}, "Answer Tom PER"),  # of what is not in it, nothing
        ("marks", ("Tom", ""), "Tom", {"spans": []}, "It marks nothing in this text."),
        (
            "asks",
            ("Who?", "Tom"),
            {"question": "Who?", "context": "Tom"},
            {"spans": [TOM | {"label": None}]},
            "Tom 90.0 %",
        ),
        ("asks", ("Who?", "Tom"), {"question": "Who?", "context": "Tom"}, {"spans": []}, "It finds no answer"),
        ("alike", ("a", "b"), {"text": "a", "text_pair": "b"}, {"similarity": 0.5}, "alike by 0.500"),
        ("gaps", ("a", ""), "a", {"gaps": [[{"token": "b", "score": 0.25}]]}, "Answer b 25.0 %"),
        (
            "gaps",
            ("a", ""),
            "a",
            {"gaps": [[{"token": "b", "score": 1}], [{"token": "c", "score": 1}]]},
            "Gap 2 c 100.0 %",
        ),
        ("gaps", ("a", ""), "a", {"gaps": []}, "There is no gap in this text."),
    ],
)
def test_answers_of_all_kinds(
    attached: Site, server: Answering, name: str, given: tuple[str, str], asked: Any, output: dict[str, Any], shown: str
) -> None:
    server.output = output
    answer = run(attached, *given, name=name, headers={"X-Part": "answer"})
    assert answer.status_code == 200 and shown in words(answer)
    assert [body["inputs"] for _, body in server.got] == [[asked]]


def test_there_is_no_form_where_it_would_be_of_no_use(
    attached: Site, server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bare", "bert", "trees"):
        assert "/try" not in attached.get(f"/ann/{name}").text
    server.base = BASE | {"name": "google-bert/bert-base-uncased", "model_type": "bert"}
    assert FORM not in attached.get("/ann/one").text
    assert "/ann/bert/try" in attached.get("/ann/bert").text
    server.base = dict(BASE)
    with attached.hub.database.write() as session:
        one = repositories.find(session, attached.actor("ann"), "ann", "one")
        repositories.withdraw(session, attached.actor("ann"), one, "wrong")
    assert FORM not in attached.get("/ann/one").text
    monkeypatch.setattr(attached.client.app.state.predictions, "_url", "http://127.0.0.1:9")  # type: ignore[attr-defined]
    assert "/ann/marks/try" not in attached.get("/ann/marks").text


def test_a_second_text_is_asked_for_where_it_is_needed(attached: Site) -> None:
    assert "<summary>With a second text</summary>" in attached.get("/ann/one").text
    assert "<summary>With" not in attached.get("/ann/entails").text
    assert "Second text</label>" in attached.get("/ann/entails").text
    assert "Second text</label>" not in attached.get("/ann/marks").text


def test_nothing_is_asked_where_nothing_is_attached(filled: Path, tmp_path: Path) -> None:
    site = open_site(filled, tmp_path / "hub")
    assert FORM not in site.get("/ann/one").text
    answer = site.post("/ann/one/try", "/login", first="a")
    assert answer.status_code == 502 and "No server runs this adapter" in words(answer)


def test_private_adapters_are_for_those_who_may_see_them(attached: Site, server: Answering) -> None:
    for name in ("bob", ""):
        site = attached.sign_in(name) if name else attached.new_browser()
        assert site.post("/ann/mine/try", "/ann/one", first="a").status_code == 404
    assert server.got == []
    assert "93.0 %" in run(attached.sign_in("ann"), name="mine").text
    assert server.got[0][0]["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "headers", "code", "shown"),
    [
        (401, {}, 502, "has to set the token"),
        (403, {}, 502, "may not see it"),
        (404, {}, 502, "may not see it"),
        (409, {}, 400, "another base model"),
        (413, {}, 400, "too long"),
        (422, {}, 400, "cannot be answered: <b>the head</b> is another"),
        (429, {"Retry-After": "7"}, 429, "try again in 7 seconds"),
        (503, {"Retry-After": "soon"}, 429, "try again in 5 seconds"),
        (504, {}, 502, "still be on its way"),
        (500, {}, 502, "its log says why"),
        (302, {"Location": "http://127.0.0.1:9/"}, 502, "its log says why"),
    ],
)
def test_what_goes_wrong_is_told(
    attached: Site, server: Answering, status: int, headers: dict[str, str], code: int, shown: str
) -> None:
    server.status, server.headers, server.detail = status, headers, "<b>the head</b> is another"
    answer = run(attached)
    assert answer.status_code == code and shown in words(answer)
    assert FORM in answer.text and "<b>the head</b>" not in answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"results": []}', b" " * (2 << 20)])
def test_an_answer_that_is_none_is_told(attached: Site, server: Answering, body: bytes) -> None:
    server.body = body
    answer = run(attached)
    assert answer.status_code == 502 and re.search("an answer that is none|without an end", answer.text)


def test_a_server_that_went_away_or_takes_long(
    attached: Site, server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = attached.client.app.state.predictions  # type: ignore[attr-defined]
    monkeypatch.setattr(predictions, "_ANSWER_SECONDS", 0.3)
    server.waits.clear()
    assert "still be on its way" in words(run(attached))
    server.waits.set()
    found = asked.base()
    monkeypatch.setattr(asked, "base", lambda: found)
    monkeypatch.setattr(asked, "_url", "http://127.0.0.1:9")
    answer = run(attached)
    assert answer.status_code == 502 and "does not answer at the moment" in words(answer)


def test_texts_are_not_endless_nor_empty(attached: Site, server: Answering) -> None:
    for name, given, shown in (
        ("one", {"first": "a" * 5001}, "Text has 5,001 characters"),
        ("one", {"first": " "}, "Write something for Text"),
        ("asks", {"first": "Who?"}, "Write something for Text that answers it"),
    ):
        answer = run(attached, name=name, **given)
        assert answer.status_code == 400 and shown in words(answer)
    assert run(attached, "a" * (1 << 21)).status_code == 413
    assert server.got == []


def test_one_may_try_so_often_and_so_many_at_once(
    attached: Site, server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = attached.client.app.state.predictions  # type: ignore[attr-defined]
    for _ in range(8):
        asked._room.acquire()
    answer = run(attached)
    assert answer.status_code == 429 and "Many people" in answer.text
    for _ in range(8):
        asked._room.release()
    monkeypatch.setattr(trying, "TRIALS", 2)
    assert [run(attached).status_code for _ in range(2)] == [200, 429]
    assert [run(attached.sign_in("bob")).status_code for _ in range(3)] == [200, 200, 429]  # an account has its own
    assert len(server.got) == 3


def test_another_site_tries_nothing(attached: Site, server: Answering) -> None:
    fields = {"first": "a", "csrf": attached.word("/ann/one")}
    elsewhere = attached.client.post("/ann/one/try", data=fields, headers={"Origin": "https://elsewhere"})
    assert elsewhere.status_code == 403
    assert attached.client.post("/ann/one/try", data=fields | {"csrf": "x"}).status_code == 403
    assert server.got == []
    back = attached.get("/ann/one/try")
    assert (back.status_code, back.headers["location"]) == (303, "/ann/one#try")


def test_what_a_server_says_is_text(attached: Site, server: Answering) -> None:
    server.output = {"scores": [{"label": "<script>alert(1)</script>", "score": 2.0}]}
    assert "<script>alert" not in run(attached).text
    server.output = {"spans": [TOM | {"label": "<img src=x>"}]}
    assert "<img" not in run(attached, "<i>Tom</i>", name="marks").text
