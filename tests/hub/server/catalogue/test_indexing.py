"""What a push leaves in the catalogue."""

import pytest
from sqlalchemy import select

from adapterhub.errors import HubAccessError, UploadRefusedError
from adapterhub.hub.server import commits, repositories
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.catalogue import bases, facets, leaderboard, reindexing, resolving, scores, search, taxonomy
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.scores import Result
from adapterhub.hub.server.commits import Message, Remove
from adapterhub.hub.server.database import Adapter, AdapterTag, Commit
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue.publishing import push
from hub.server.conftest import person
from hub.server.postgres import on_both

CARD = """---
license: apache-2.0
language: en
tags: [adapterhub:sentiment/sst-2, Reviews]
model-index:
- name: x
  results:
  - task: {type: text-classification}
    dataset: {type: glue, name: SST-2, config: sst2, split: validation}
    metrics: [{type: accuracy, value: 91.5}, {type: f1, value: 0.9}]
---
# Polarity of films

Trained on sentences of the treebank.

A long tale about zebras.
"""


@on_both
def test_a_push_is_found_by_all_that_is_said_of_it(hub: Hub, ann: Actor) -> None:
    commit = push(hub, ann, "films", CARD)
    with hub.database.read() as session:
        row = session.scalars(select(Adapter)).one()
        assert (row.oid, row.format, row.method, row.license, row.language) == (
            commit.oid, "peft", "lora", "apache-2.0", "en"
        )  # fmt: skip
        assert row.task is not None and row.dataset is not None and row.base is not None
        assert (row.task.slug, row.dataset.slug, row.base.name) == ("sentiment", "sst-2", "roberta-base")
        assert (row.title, row.summary) == ("Polarity of films", "Trained on sentences of the treebank.")
        assert (row.score, row.merit, row.verified) == (0.915, 0.915, False)
        assert "reviews" in session.scalars(select(AdapterTag.tag)).all()
        for words in ("zebras", "polarity sst", "ann/films", "roberta lora", "Stanford Sentiment", "reviews", "en"):
            assert search.count(session, STRANGER, words=words) == (words != "Stanford Sentiment"), words
        found = resolving.resolve(session, STRANGER, "sentiment/sst-2@ann")
        assert found.resolution.commit == commit.oid and found.version is None


@on_both
def test_a_later_push_takes_the_place_of_an_earlier_one(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "films", CARD)
    push(hub, ann, "films", CARD.replace("sst-2", "imdb").replace("zebras", "lions"), value=2.0)
    with hub.database.read() as session:
        assert search.count(session, STRANGER, Filters(dataset=("sentiment/imdb",))) == 1
        assert search.count(session, STRANGER, Filters(dataset=("sentiment/sst-2",))) == 0
        assert search.count(session, STRANGER, words="zebras") == 0
        assert search.count(session, STRANGER, words="lions") == 1
    weights = Remove("adapter_model.safetensors")
    commits.publish(hub, ann, "ann", "films", "main", [weights, Remove("adapter_config.json")], Message("Empty"))
    with hub.database.read() as session:
        assert search.count(session, STRANGER) == 0
        assert facets.facets(session, STRANGER)["task"] == []


@on_both
def test_a_repository_that_is_gone_is_found_no_more(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "films", CARD)
    with hub.database.write() as session:
        repositories.remove(session, ann, repositories.find(session, ann, "ann", "films"))
    push(hub, ann, "plants", CARD.replace("zebras", "trees"))
    with hub.database.read() as session:
        assert search.count(session, STRANGER) == search.count(session, STRANGER, words="trees") == 1
        assert search.count(session, STRANGER, words="zebras") == 0


def test_a_task_that_is_not_known_is_refused_and_nothing_is_left(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "films", CARD)
    with pytest.raises(UploadRefusedError, match=r"no task or language 'sentimant': did you mean sentiment"):
        push(hub, ann, "films", CARD.replace("adapterhub:sentiment", "adapterhub:sentimant"), value=2.0)
    with hub.database.read() as session:
        assert search.count(session, STRANGER, words="polarity") == 1
        assert len(session.scalars(select(Commit)).all()) == 2


def test_a_publisher_adds_data_sets_and_a_curator_tasks(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "one", CARD.replace("sst-2", "films-of-mine"))
    push(hub, person(hub, "eve", admin=True), "two", CARD.replace("sentiment/sst-2", "irony/tweets"))
    with hub.database.read() as session:
        for task, dataset in (("sentiment", "films-of-mine"), ("irony", "tweets")):
            assert taxonomy.dataset(session, taxonomy.task(session, task), dataset).task.slug == task


def test_languages_are_places_too(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "german", "---\ntags: ['adapterhub:lang/de/wiki']\n---\n")
    push(hub, ann, "french", "---\ntags: ['adapterhub:fr/wiki']\n---\n")
    with hub.database.read() as session:
        for place, name in (("lang/de@ann", "german"), ("lang/de/wiki@ann", "german"), ("fr/wiki@ann", "french")):
            assert resolving.resolve(session, STRANGER, place).adapter.repository.name == name
        assert {one.language for one in session.scalars(select(Adapter))} == {"de", "fr"}


def test_an_adapter_that_cannot_go_into_its_base_is_refused(hub: Hub, ann: Actor) -> None:
    with hub.database.write() as session:
        config = {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12}
        bases.describe(session, person_as_admin(ann), "roberta-base", config)
    push(hub, ann, "right", CARD)
    with pytest.raises(UploadRefusedError, match="1024 x 1024 in the adapter, 768"):
        push(hub, ann, "wrong", CARD, hidden=1024)


def person_as_admin(actor: Actor) -> Actor:
    return Actor(actor.id, actor.name, "admin", is_admin=True)


@on_both
def test_a_claim_is_a_claim_until_somebody_else_measures(hub: Hub, ann: Actor, bob: Actor) -> None:
    commit = push(hub, ann, "films", CARD)
    measure(hub, ann, commit, 0.99)
    assert row_of(hub).verified is False
    measure(hub, bob, commit, 0.87)
    assert (row_of(hub).score, row_of(hub).verified) == (0.87, True)
    edited = push(hub, ann, "films", CARD.replace("zebras", "lions"))
    assert edited.oid != commit.oid and (row_of(hub).score, row_of(hub).verified) == (0.87, True)
    push(hub, ann, "films", CARD, value=2.0)  # other weights: what was measured does not hold for them
    assert (row_of(hub).score, row_of(hub).verified) == (0.915, False)
    with pytest.raises(LookupError, match="by now another adapter"):
        measure(hub, bob, commit, 0.87)
    with pytest.raises(HubAccessError):
        measure(hub, STRANGER, commit, 0.87)


def measure(hub: Hub, actor: Actor, commit: Commit, value: float) -> None:
    with hub.database.write() as session:
        place = taxonomy.dataset(session, taxonomy.task(session, "sentiment"), "sst-2")
        repository = repositories.find(session, actor, "ann", "films")
        its = repositories.revision(session, repository, commit.oid)
        scores.measured(session, actor, repository, its, place, [Result("Accuracy", value)], {"seed": 0})


def row_of(hub: Hub) -> Adapter:
    with hub.database.read() as session:
        return session.scalars(select(Adapter)).one()


@on_both
def test_a_leaderboard_has_the_verified_ones_first(hub: Hub, ann: Actor, bob: Actor) -> None:
    for name, value in (("good", 95), ("better", 0.97), ("hidden", 0.99), ("films", 0.5)):
        commit = push(hub, ann, name, CARD.replace("91.5", str(value)))
    measure(hub, bob, commit, 0.8)
    with hub.database.write() as session:
        repositories.set_private(session, ann, repositories.find(session, ann, "ann", "hidden"), True)
    with hub.database.read() as session:
        place = taxonomy.dataset(session, taxonomy.task(session, "sentiment"), "sst-2")
        table = leaderboard.leaderboard(session, STRANGER, place)
        rows = [(one.rank, one.adapter.repository.name, one.score.value, one.verifier) for one in table.rows]
        assert rows == [(1, "films", 0.8, "bob"), (2, "better", 0.97, ""), (3, "good", 0.95, "")]
        assert (table.metric, set(table.metrics)) == ("accuracy", {"accuracy", "f1"})
        assert len(leaderboard.leaderboard(session, ann, place).rows) == 4
        other = leaderboard.leaderboard(session, STRANGER, place, metric="F1", filters=Filters(base=("gpt2",)))
        assert other.metric == "f1" and other.rows == ()


@on_both
def test_indexed_anew_it_is_the_same_but_for_what_was_renamed(hub: Hub, ann: Actor) -> None:
    push(hub, ann, "films", CARD)
    eve = person(hub, "eve", admin=True)
    with hub.database.write() as session:
        taxonomy.change_task(session, eve, taxonomy.task(session, "sentiment"), title="Opinions")
    before = search_all(hub)
    assert reindexing.reindex(hub, eve) == {}
    assert search_all(hub) == before
    with hub.database.read() as session:
        assert search.count(session, STRANGER, words="opinions") == 1
    with pytest.raises(HubAccessError):
        reindexing.reindex(hub, ann)


def search_all(hub: Hub) -> list[tuple[object, ...]]:
    with hub.database.read() as session:
        rows = search.search(session, STRANGER).adapters
        return [tuple(getattr(one, column.name) for column in Adapter.__table__.columns) for one in rows]
