"""The catalogue step by step: tasks or languages, their data sets, base models, methods; with counts at each."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.catalogue.facets import Value, facets
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.taxonomy import Kind
from adapterhub.hub.server.database import Task


@dataclass(frozen=True)
class Branch:
    """A task, a language or a data set, with the number of adapters in it and in its parts."""

    value: str
    title: str
    description: str
    count: int
    parts: tuple["Branch", ...] = ()


@dataclass(frozen=True)
class Level:
    """What there is at a place of the tree: the base models and methods of what lies below it."""

    branches: tuple[Branch, ...]
    bases: tuple[Value, ...]
    methods: tuple[Value, ...]


def roots(session: Session, actor: Actor, kind: Kind) -> tuple[Branch, ...]:
    """All tasks, or all languages, by title; also those without adapters."""
    counts = {one.value: one.count for one in facets(session, actor, names=("task",))["task"]}
    return tuple(
        Branch(one.slug, one.title, one.description, counts.get(one.slug, 0)) for one in taxonomy.tasks(session, kind)
    )


def counts(session: Session, actor: Actor, task: Task) -> dict[str, int]:
    """The number of adapters for each data set of a task and its parts, by name."""
    counted = facets(session, actor, Filters(task=(task.slug,)), names=("dataset",))["dataset"]
    found: dict[str, int] = {}

    def add(branches: tuple[Branch, ...]) -> None:
        for one in branches:
            found[one.value.partition("/")[2]] = one.count
            add(one.parts)

    add(_branches(session, actor, task, {one.value: one.count for one in counted}))
    return found


def level(session: Session, actor: Actor, filters: Filters) -> Level:
    """What lies below a place: a task, perhaps a data set, a base model and a method.

    Raises:
        HubNotFoundError: for a task that there is none of.
    """
    counted = facets(session, actor, filters, names=("dataset", "base", "method"))
    branches: tuple[Branch, ...] = ()
    for slug in filters.task:
        task = taxonomy.task(session, slug)
        branches += _branches(session, actor, task, {one.value: one.count for one in counted["dataset"]})
    return Level(branches, tuple(counted["base"]), tuple(counted["method"]))


def _branches(session: Session, actor: Actor, task: Task, counts: dict[str, int]) -> tuple[Branch, ...]:
    """The data sets of a task, each with its parts."""
    known = taxonomy.datasets(session, task, actor)

    def below(parent_id: int | None) -> tuple[Branch, ...]:
        made = []
        for one in known:
            if one.parent_id == parent_id:
                parts, value = below(one.id), f"{task.slug}/{one.slug}"
                number = counts.get(value, 0) + sum(part.count for part in parts)
                made.append(Branch(value, one.title, one.description, number, parts))
        return tuple(made)

    return below(None)
