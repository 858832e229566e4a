"""How many adapters there are of each kind: beside a search, and at every step of the tree."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.search import selected
from adapterhub.hub.server.database import Adapter, BaseModel, Dataset, Task

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

    What a facet itself is narrowed to does not count for it: one sees how many another value would give.
    """
    columns = {name: _column(name) for name in names}
    found: dict[str, dict[Any, int]] = {}
    for name, column in columns.items():
        wanted = selected(session, actor, filters.without(name), words, column, func.count()).group_by(column)
        found[name] = dict(session.execute(wanted).tuples().all())
    return {name: named(session, name, counts) for name, counts in found.items()}


def named(session: Session, name: str, counts: dict[Any, int]) -> list[Value]:
    """Counts by what the column holds, as values of a facet; adapters without one are left out."""
    known = {key: number for key, number in counts.items() if key not in (None, "") and number > 0}
    titles: dict[Any, tuple[str, str]] = {}
    match name:
        case "task":
            titles = {id: (slug, title) for id, slug, title in session.execute(select(Task.id, Task.slug, Task.title))}
        case "dataset":
            rows = select(Dataset.id, Task.slug, Dataset.slug, Dataset.title).join(Task, Task.id == Dataset.task_id)
            titles = {id: (f"{task}/{slug}", title) for id, task, slug, title in session.execute(rows)}
        case "base":
            return _by_base(session, known)
        case "language":
            languages = select(Task.slug, Task.title).where(Task.kind == "language")
            titles = {code: (code, title) for code, title in session.execute(languages)}
        case "verified":
            titles = {True: ("true", "Verified"), False: ("false", "Not verified")}
    values = [Value(*titles.get(key, (str(key), str(key))), number) for key, number in known.items()]
    return sorted(values, key=lambda one: (-one.count, one.value))


def _column(name: str) -> Any:
    return getattr(Adapter, {"task": "task_id", "dataset": "dataset_id", "base": "base_id"}.get(name, name))


def _by_base(session: Session, counts: dict[Any, int]) -> list[Value]:
    """Rows of one name are one value."""
    keys = {id: (key, name) for id, key, name in session.execute(select(BaseModel.id, BaseModel.key, BaseModel.name))}
    sums: dict[str, Value] = {}
    for id, number in counts.items():
        key, name = keys[id]
        before = sums.get(key, Value(key, name, 0))
        sums[key] = Value(key, before.title, before.count + number)
    return sorted(sums.values(), key=lambda one: (-one.count, one.value))
