"""What adapters are found by: counts beside a search, suggestions, and the tree."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.narrowing import Filtered, Narrowed, Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.catalogue import facets, tree
from adapterhub.hub.server.catalogue.search import suggest
from adapterhub.hub.server.catalogue.taxonomy import Kind
from adapterhub.hub.server.context import TheActor, TheHub

routes = router("catalogue")


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Value(_Read):
    """A value that adapters are narrowed to, and how many there would be."""

    value: str
    title: str
    count: int


class Suggestion(_Read):
    """What somebody may mean who has begun to type."""

    kind: Literal["task", "language", "dataset", "base", "adapter"]
    name: str
    title: str


class Branch(_Read):
    """A task, a language or a data set, with the number of adapters in it and in its parts."""

    value: str
    title: str
    description: str
    count: int
    parts: list["Branch"]


class Level(_Read):
    """What lies below a place of the tree: branches, and the base models and methods of all adapters there."""

    branches: list[Branch]
    bases: list[Value]
    methods: list[Value]


class Place(Filtered):
    """Where in the tree: tasks, perhaps data sets, a base model and a method; without a task, at one of its roots."""

    root: Literal["task", "language"] = "task"


@routes.get("/facets", responses=problems(404))
def facet_counts(hub: TheHub, actor: TheActor, wanted: Annotated[Narrowed, Query()]) -> dict[str, list[Value]]:
    """For each facet how many adapters have which value; what a facet itself is narrowed to does not count for it."""
    with hub.database.read() as session:
        found = facets.facets(session, actor, wanted.filters(session), words=wanted.q)
    return {name: [Value.model_validate(one) for one in values] for name, values in found.items()}


@routes.get("/suggest", responses=problems())
def suggestions(
    hub: TheHub, actor: TheActor, q: Text, limit: Annotated[int, Query(ge=1, le=50)] = 8
) -> list[Suggestion]:
    """Tasks, languages, data sets, base models and adapters that begin like what was typed."""
    with hub.database.read() as session:
        return [Suggestion.model_validate(one) for one in suggest(session, actor, q, limit)]


@routes.get("/explore", responses=problems(404))
def explore(hub: TheHub, actor: TheActor, place: Annotated[Place, Query()]) -> Level:
    """What lies below a place of the tree, with the number of adapters in each branch."""
    with hub.database.read() as session:
        found = Level.model_validate(tree.level(session, actor, place.filters(session)))
        if not place.task:
            found.branches = _roots(session, actor, place.root)
        return found


@routes.get("/tasks", responses=problems())
def tasks(hub: TheHub, actor: TheActor) -> list[Branch]:
    """All tasks, with the number of adapters for each."""
    with hub.database.read() as session:
        return _roots(session, actor, "task")


@routes.get("/languages", responses=problems())
def languages(hub: TheHub, actor: TheActor) -> list[Branch]:
    """All languages, with the number of adapters for each."""
    with hub.database.read() as session:
        return _roots(session, actor, "language")


def _roots(session: Session, actor: Actor, kind: Kind) -> list[Branch]:
    return [Branch.model_validate(one) for one in tree.roots(session, actor, kind)]
