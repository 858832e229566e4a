"""How many adapters there are of each kind: beside a search, and at every step of the tree."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.columns import NAMES, Numbers, of
from adapterhub.hub.server.catalogue.filters import Filters, choose
from adapterhub.hub.server.database import BaseModel, Dataset, Task

FACETS = ("task", "dataset", "language", "base", "method", "format", "kind", "license", "head", "verified")


@dataclass(frozen=True)
class Value:
    """A value of a facet: what ``Filters`` takes, what a person reads, and how many adapters have it."""

    value: str
    title: str
    count: int


def facets(
    session: Session,
    actor: Actor,
    filters: Filters = Filters(),  # noqa: B008
    *,
    words: str = "",
    names: tuple[str, ...] = FACETS,
) -> dict[str, list[Value]]:
    """For each facet its values with the number of adapters that the search has, the most frequent first.

    What a facet itself is narrowed to does not count for it: one sees how many another value would give. Adapters
    without a value (of no task, say) are not counted there.
    """
    columns = of(session)
    found = choose(session, actor, columns, filters, words)
    made = {}
    for name in names:
        counts = _counts(columns[name][found.places(without=name)])
        if name in NAMES:
            texts = list(columns.codes[name])
            made[name] = _named(session, name, {texts[code]: number for code, number in counts.items() if code})
        elif name == "verified":
            made[name] = _ordered([Value(*_VERIFIED[code], number) for code, number in counts.items()])
        else:
            made[name] = _by_id(session, name, {id: number for id, number in counts.items() if id})
    return made


def by_base(session: Session, actor: Actor, filters: Filters, words: str = "") -> dict[int, int]:
    """How many adapters the search has for each row of base models, by its id."""
    columns = of(session)
    counts = _counts(columns["base"][choose(session, actor, columns, filters, words).places()])
    return {id: number for id, number in counts.items() if id}


_VERIFIED = (("false", "Not verified"), ("true", "Verified"))


def _counts(values: Numbers) -> dict[int, int]:
    numbers = np.bincount(values)
    return {int(value): int(numbers[value]) for value in np.flatnonzero(numbers)}


def _named(session: Session, name: str, counts: dict[str, int]) -> list[Value]:
    titles: dict[str, str] = {}
    if name == "language":
        titles = dict(session.execute(select(Task.slug, Task.title).where(Task.kind == "language")).tuples().all())
    return _ordered([Value(text, titles.get(text, text), number) for text, number in counts.items()])


def _by_id(session: Session, name: str, counts: dict[int, int]) -> list[Value]:
    """Values of one name are one: the rows of a base model."""
    sources = {
        "task": select(Task.id, Task.slug, Task.title),
        "dataset": select(Dataset.id, Task.slug + "/" + Dataset.slug, Dataset.title).join(Dataset.task),
        "base": select(BaseModel.id, BaseModel.key, BaseModel.name).order_by(BaseModel.id.desc()),
    }
    titles, sums = dict[str, str](), dict[str, int]()
    for id, value, title in session.execute(sources[name]):
        if id in counts:
            titles[value] = title
            sums[value] = sums.get(value, 0) + counts[id]
    return _ordered([Value(value, titles[value], number) for value, number in sums.items()])


def _ordered(values: list[Value]) -> list[Value]:
    return sorted(values, key=lambda one: (-one.count, one.value))
