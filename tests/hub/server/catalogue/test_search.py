"""Search and counts against a plain reading of what they should give."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterhub.errors import HubIdError
from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.catalogue import facets, search, tree
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue import making
from hub.server.catalogue.making import Made
from hub.server.conftest import person
from hub.server.postgres import on_both

OWNERS = ("ann", "bob", "lab")
FACETS = tuple(Made().facets)
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

filters = st.builds(
    Filters,
    task=st.sampled_from([(), ("sentiment",), ("sentiment", "de"), ("nothing",)]),
    dataset=st.sampled_from([(), ("sentiment/imdb",), ("rte",)]),
    base=st.sampled_from([(), ("FacebookAI/RoBERTa-base",), ("gpt2", "roberta-base")]),
    method=st.sampled_from([(), ("lora",)]),
    license=st.sampled_from([(), ("mit",), ("mit", "apache-2.0")]),
    verified=st.sampled_from([None, True, False]),
    withdrawn=st.sampled_from([False, False, True]),
    owner=st.sampled_from([(), ("ann",)]),
    tag=st.sampled_from([(), ("a",), ("a", "b")]),
    min_size=st.sampled_from([None, 2]),
    max_size=st.sampled_from([None, 3]),
)
asked = st.sampled_from(["", "rob", "rob ", "robust sst-2", "roberta-ba", "LEGAL ", "le", "german", "lora x2", "?!"])


@pytest.fixture
def people(hub: Hub, ann: Actor, bob: Actor) -> Iterator[list[Actor]]:
    """Who asks; ann belongs to the organisation lab."""
    eve = person(hub, "eve", admin=True)
    assert ann.id is not None
    with hub.database.write() as session:
        accounts.add_organisation(session, "lab", ann.id)
        making.learn_titles(session)
    yield [STRANGER, ann, bob, eve]


@on_both
@few
@given(st.data(), making.adapters(OWNERS), filters, asked)
def test_search_and_counts_are_what_a_plain_reading_gives(
    hub: Hub, people: list[Actor], data: st.DataObject, some: list[Made], narrowed: Filters, words: str
) -> None:
    some = making.fill(hub, some)
    actor = data.draw(st.sampled_from(people))
    sort, limit = data.draw(st.sampled_from(search.SORTS)), data.draw(st.integers(1, 5))
    right = making.expected(some, making.sees(actor), narrowed, words)
    right.sort(key=lambda one: _key(one, sort, words), reverse=True)
    with hub.database.read() as session:
        assert search.count(session, actor, narrowed, words=words) == len(right)
        found, after = list[int](), None
        while True:
            page = search.search(session, actor, narrowed, words=words, sort=sort, limit=limit, after=after)
            found += [one.repository_id for one in page.adapters]
            assert len(page.adapters) == limit or page.next is None
            if (after := page.next) is None:
                break
        assert found == [one.id for one in right]
        counted = facets.facets(session, actor, narrowed, words=words, names=FACETS)
        for name in FACETS:
            others = making.expected(some, making.sees(actor), narrowed, words, without=name)
            assert {one.value: one.count for one in counted[name]} == making.counts(others, name), name


def _key(one: Made, sort: str, words: str) -> tuple[float, ...]:
    by_words = making.has_words(one, words, everywhere=False)
    keys: dict[str, tuple[float, ...]] = {
        "relevance": (by_words, one.downloads),
        "downloads": (one.downloads,),
        "updated": (one.day,),
        "score": (one.verified, float("-inf") if one.merit is None else one.merit),
        "size": (-one.size,),
    }
    return (*keys.get(sort, ()), one.id)


def test_what_cannot_be_a_page(hub: Hub) -> None:
    making.fill(hub, [])
    with hub.database.read() as session:
        with pytest.raises(HubIdError, match="not by 'beauty'"):
            search.search(session, STRANGER, sort="beauty")  # type: ignore[arg-type]
        for wrong in ("x", "WyJsaWtlcyIsMSwyXQ", "WyJkb3dubG9hZHMiLCJhIiwyXQ", "W10", "ä"):
            with pytest.raises(HubIdError, match="start from its first page"):
                search.search(session, STRANGER, sort="downloads", after=wrong)


@on_both
def test_what_somebody_may_mean(hub: Hub, people: list[Actor]) -> None:
    making.fill(hub, [Made(title="Rotund"), Made(title="Rotating", private=True), Made(place="", base="roberta-large")])
    with hub.database.read() as session:
        found = search.suggest(session, STRANGER, "ro")
        assert [(one.kind, one.name) for one in found][:4] == [
            ("language", "ro"),
            ("dataset", "sentiment/rotten_tomatoes"),
            ("base", "roberta-base"),
            ("base", "roberta-large"),
        ]
        assert "Rotund" in [one.title for one in found] and "Rotating" not in [one.title for one in found]
        assert search.suggest(session, STRANGER, " ") == []
        assert search.suggest(session, STRANGER, "100%_") == []


@on_both
def test_the_tree_counts_what_lies_below(hub: Hub, people: list[Actor]) -> None:
    making.fill(hub, [Made(), Made(method="ia3"), Made(place="sentiment/imdb", private=True), Made(place="de/wiki")])
    ann = people[1]
    with hub.database.read() as session:
        tasks = {one.value: one.count for one in tree.roots(session, STRANGER, "task")}
        assert len(tasks) == 26 and tasks["sentiment"] == 2 and sum(tasks.values()) == 2
        assert {one.value: one.count for one in tree.roots(session, ann, "task")}["sentiment"] == 3
        assert {one.value: one.count for one in tree.roots(session, ann, "language")}["de"] == 1
        below = tree.level(session, ann, Filters(task=("sentiment",), dataset=("sentiment/sst-2",)))
        assert {one.value: one.count for one in below.branches if one.count} == {
            "sentiment/sst-2": 2,
            "sentiment/imdb": 1,
        }
        assert [(one.value, one.count) for one in below.bases] == [("roberta-base", 2)]
        assert {(one.value, one.count) for one in below.methods} == {("lora", 1), ("ia3", 1)}
