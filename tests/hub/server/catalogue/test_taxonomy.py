"""Tasks, languages and data sets: those that a new hub has, and those that are added."""

from pathlib import Path

import pytest

from adapterhub.errors import HubAccessError, HubConflictError, HubIdError, HubNotFoundError
from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.catalogue import archive_reading, taxonomy, tree
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.hub import Hub
from hub.server.catalogue import making
from hub.server.catalogue.making import Made
from hub.server.conftest import person
from hub.server.postgres import on_both


@on_both
def test_a_new_hub_has_what_adapterhub_had(hub: Hub, archived: Path) -> None:
    archive = archive_reading.read(archived)
    for _ in range(2):
        with hub.database.write() as session:
            taxonomy.seed(session)
    with hub.database.read() as session:
        tasks, languages = taxonomy.tasks(session, "task"), taxonomy.tasks(session, "language")
        assert (len(tasks), len(languages)) == (26, 97)
        for (kind, slug), content in archive.tasks.items():
            one = taxonomy.task(session, slug)
            assert (one.kind, one.title) == (kind, content["displayname"])
        for (_, task, slug), content in archive.datasets.items():
            found = taxonomy.dataset(session, taxonomy.task(session, task), slug)
            metric = content.get("metric") or {}
            assert (found.metric, found.url) == (metric.get("name", ""), content.get("url") or "")
        assert sum(len(taxonomy.datasets(session, one)) for one in tasks) == 58
        assert taxonomy.dataset(session, taxonomy.task(session, "sentiment"), "sst-2").language == "en"


def test_names_that_are_not_there_and_those_near(hub: Hub) -> None:
    with hub.database.read() as session:
        with pytest.raises(HubNotFoundError, match="did you mean sentiment"):
            taxonomy.task(session, "sentimet")
        with pytest.raises(HubNotFoundError, match="no data set 'sst2': did you mean sst-2"):
            taxonomy.dataset(session, taxonomy.task(session, "sentiment"), "sst2")


def test_who_may_add_what(hub: Hub, ann: Actor) -> None:
    eve = person(hub, "eve", admin=True)
    with hub.database.write() as session:
        with pytest.raises(HubAccessError):
            taxonomy.add_task(session, ann, "irony", "Irony")
        irony = taxonomy.add_task(session, eve, "Irony", "Irony")
        taxonomy.add_dataset(session, ann, irony, "tweets")
        with pytest.raises(HubAccessError):
            taxonomy.add_dataset(session, STRANGER, irony, "tweets2")
        with pytest.raises(HubAccessError):
            taxonomy.change_task(session, ann, irony, title="Mine")
        with pytest.raises(HubConflictError, match="already"):
            taxonomy.add_task(session, eve, "IRONY", "Irony")
        with pytest.raises(HubConflictError, match="already"):
            taxonomy.add_dataset(session, eve, irony, "Tweets")


def test_a_task_and_an_account_never_share_a_name(hub: Hub, ann: Actor) -> None:
    eve = person(hub, "eve", admin=True)
    with hub.database.write() as session:
        for name in ("ann", "Ann"):
            with pytest.raises(HubConflictError, match="name of an account"):
                taxonomy.add_task(session, eve, name, "Me")
        for name in ("settings", "main", "a/b", ""):
            with pytest.raises(HubIdError):
                taxonomy.add_task(session, eve, name, "Page")
        irony = taxonomy.add_task(session, eve, "irony", "Irony")
        with pytest.raises(HubConflictError, match="name of an account"):
            taxonomy.change_task(session, eve, irony, slug="ann")
        for name in ("irony", "sentiment", "de", "Bxr"):
            with pytest.raises(HubIdError, match="reserved"):
                accounts.add_user(session, name, None)
        taxonomy.change_task(session, eve, irony, slug="sarcasm")
        accounts.add_user(session, "irony", None)


def test_data_sets_have_parts_of_any_depth(hub: Hub, ann: Actor) -> None:
    eve = person(hub, "eve", admin=True)
    with hub.database.write() as session:
        task = taxonomy.task(session, "sentiment")
        top = taxonomy.dataset(session, task, "imdb")
        part = taxonomy.add_dataset(session, ann, task, "imdb-noir", parent=top)
        leaf = taxonomy.add_dataset(session, ann, task, "imdb-noir-1940s", parent=part)
        with pytest.raises(HubIdError, match="a part of"):
            taxonomy.change_dataset(session, eve, top, parent=leaf)
        with pytest.raises(HubIdError, match="another task"):
            taxonomy.add_dataset(session, ann, taxonomy.task(session, "nli"), "x", parent=top)
    places = ["sentiment/imdb", "sentiment/imdb-noir", "sentiment/imdb-noir-1940s", "sentiment/imdb-noir-1940s"]
    making.fill(hub, [Made(place=place) for place in places])
    with hub.database.read() as session:
        found = {one.value: one for one in tree.level(session, STRANGER, Filters(task=("sentiment",))).branches}
        imdb = found["sentiment/imdb"]
        assert (imdb.count, imdb.parts[0].count, imdb.parts[0].parts[0].count) == (4, 3, 2)
        below = tree.level(session, STRANGER, Filters(task=("sentiment",), dataset=("sentiment/imdb-noir",)))
        assert [one.count for one in below.bases] == [3]
