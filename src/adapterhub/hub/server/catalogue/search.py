"""Adapters found by words and filters, a page at a time; and what somebody may mean who has begun to type."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubIdError
from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import words as texts
from adapterhub.hub.server.catalogue.columns import Columns, Mask, Numbers, of
from adapterhub.hub.server.catalogue.filters import Filters, choose
from adapterhub.hub.server.database import Adapter, BaseModel, Dataset, Task

Sort = Literal["relevance", "downloads", "likes", "updated", "created", "score", "size"]
SORTS: tuple[Sort, ...] = get_args(Sort)
MOST = 100  # adapters of a page


@dataclass(frozen=True)
class Page:
    """Some of the adapters that were found, and where the next ones begin (None: these are the last)."""

    adapters: list[Adapter]
    next: str | None


class Suggestion(NamedTuple):
    """What somebody may mean: a ``task``, ``language``, ``dataset``, ``base`` or ``adapter`` by its name and title."""

    kind: str
    name: str
    title: str


def search(
    session: Session,
    actor: Actor,
    filters: Filters = Filters(),  # noqa: B008
    *,
    words: str = "",
    sort: Sort | None = None,
    limit: int = 20,
    after: str | None = None,
) -> Page:
    """The adapters that somebody may see, that have these words, and that pass the filters.

    Args:
        words: in the name, task, data set, language, base model, tags, summary or card; the last may be unfinished.
        sort: by default ``relevance`` with words (those that have them all in the name or in their place in the
            catalogue come first, then by downloads), ``downloads`` without; ``score`` has the verified ones first,
            and ``size`` the smallest; for the others more comes first.
        limit: at most 100.
        after: ``next`` of the page before, of the same search.

    Raises:
        HubIdError: for a sort that there is none of, or an ``after`` that is of no such search.
    """
    sort = sort or ("relevance" if words.strip() else "downloads")
    if sort not in SORTS:
        raise HubIdError(f"adapters are sorted by {', '.join(SORTS)}, not by {sort!r}")
    limit = max(1, min(limit, MOST))
    columns = of(session)
    places = choose(session, actor, columns, filters, words).places()
    keys = [*(key[places] for key in _keys(session, columns, sort, words)), columns.ids[places]]
    if after is not None:
        behind = _behind(keys, _read(after, sort, len(keys)))
        places, keys = places[behind], [key[behind] for key in keys]
    first = _first(keys, limit + 1)
    more = _write(sort, [key[first[limit - 1]].item() for key in keys]) if len(first) > limit else None
    return Page(load(session, actor, columns.ids[places[first[:limit]]].tolist()), more)


def count(session: Session, actor: Actor, filters: Filters = Filters(), *, words: str = "") -> int:  # noqa: B008
    """How many adapters ``search`` finds."""
    return len(choose(session, actor, of(session), filters, words).places())


def load(session: Session, actor: Actor, ids: list[int]) -> list[Adapter]:
    """The rows of adapters, in this order, as far as they may be seen."""
    wanted = select(Adapter).join(Adapter.repository).where(Adapter.repository_id.in_(ids), policy.visible(actor))
    rows = {one.repository_id: one for one in session.scalars(wanted)}
    return [rows[one] for one in ids if one in rows]


def suggest(session: Session, actor: Actor, typed: str, limit: int = 8) -> list[Suggestion]:
    """What begins like what was typed: tasks and languages, data sets, base models, then adapters by relevance."""
    text = typed.strip().lower()
    if not text:
        return []
    like = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"

    def begins(*columns: Any) -> ColumnElement[bool]:
        found = [func.lower(column).like(like, escape="\\") for column in columns]
        return found[0] if len(found) == 1 else found[0] | found[1]

    found = [
        *(
            Suggestion(kind, slug, title)
            for kind, slug, title in session.execute(
                select(Task.kind, Task.slug, Task.title).where(begins(Task.slug, Task.title)).limit(limit)
            )
        ),
        *(
            Suggestion("dataset", f"{task}/{slug}", title)
            for task, slug, title in session.execute(
                select(Task.slug, Dataset.slug, Dataset.title)
                .select_from(Dataset)
                .join(Task, Task.id == Dataset.task_id)
                .where(begins(Dataset.slug, Dataset.title), Task.kind == "task", Dataset.public)
                .limit(limit)
            )
        ),
        *(
            Suggestion("base", name, name)
            for name in session.scalars(
                select(func.min(BaseModel.name))
                .where(begins(BaseModel.key), BaseModel.public)
                .group_by(BaseModel.key)
                .limit(limit)
            )
        ),
    ][:limit]
    if len(found) < limit:
        found += _named(session, actor, typed.strip(), limit - len(found))
    return found


def _named(session: Session, actor: Actor, typed: str, limit: int) -> list[Suggestion]:
    """The most downloaded adapters that have the words in their names or place."""
    columns = of(session)
    places = choose(session, actor, columns, Filters(), typed, in_topic=True).places()
    first = _first([columns["downloads"][places], columns.ids[places]], limit)
    rows = load(session, actor, columns.ids[places[first]].tolist())
    return [Suggestion("adapter", one.repository.full_name, one.title) for one in rows]


def _keys(session: Session, columns: Columns, sort: Sort, asked: str) -> list[Numbers]:
    """What is sorted by, more first; then comes the id."""
    match sort:
        case "relevance":
            told = texts.find(session, asked, in_topic=True)
            best = columns.alive if told is None else columns.mask(told)
            return [best.astype(np.int64), columns["downloads"]]
        case "score":
            return [columns["verified"].astype(np.int64), columns["merit"]]
        case "size":
            return [-columns["size"]]
        case _:
            return [columns[sort]]


def _behind(keys: list[Numbers], values: list[Any]) -> Mask:
    """Which come after some values in the order."""
    behind = np.zeros(len(keys[0]), np.bool_)
    for key, value in zip(reversed(keys), reversed(values), strict=True):
        behind = (key < value) | ((key == value) & behind)
    return behind


def _first(keys: list[Numbers], number: int) -> Numbers:
    """The first ones in the order; only those that can be among them are sorted."""
    places, first, left = np.arange(len(keys[0])), list[Numbers](), number
    for key in keys:
        if len(places) <= left:
            break
        values = key[places]
        last = np.partition(values, len(values) - left)[len(values) - left]
        first.append(places[values > last])
        places, left = places[values == last], left - len(first[-1])
    chosen = np.concatenate([*first, places])
    return chosen[np.lexsort([key[chosen] for key in reversed(keys)])[::-1][:number]]


def _write(sort: Sort, values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, *values]).encode()).decode().rstrip("=")


def _read(cursor: str, sort: Sort, length: int) -> list[Any]:
    try:
        kind, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if kind != sort or len(values) != length or not all(type(value) in (int, float) for value in values):
            raise ValueError(kind)
    except (ValueError, TypeError, binascii.Error) as error:
        raise HubIdError(f"{cursor[:80]!r} continues no search sorted by {sort}: start from its first page") from error
    return values
