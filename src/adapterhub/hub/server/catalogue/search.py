"""Adapters found by words and filters, a page at a time; and what somebody may mean who has begun to type."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session

from adapterhub.errors import HubIdError
from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import words as fulltext
from adapterhub.hub.server.catalogue.filters import Filters, condition
from adapterhub.hub.server.database import Adapter, BaseModel, Dataset, Repository, Task

Sort = Literal["relevance", "downloads", "likes", "updated", "created", "score", "size", "name"]
SORTS: tuple[Sort, ...] = get_args(Sort)
MOST = 100  # adapters of a page
_NO_SCORE = -1e300


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


class _Order(NamedTuple):
    columns: tuple[Any, ...]
    descending: bool


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
        sort: by default ``relevance`` with words, ``downloads`` without; ``score`` has the verified ones first, and
            ``size`` the smallest, ``name`` goes by the alphabet; for the others more comes first.
        limit: at most 100.
        after: ``next`` of the page before, of the same search.

    Raises:
        HubIdError: for a sort that there is none of, or an ``after`` that is of no such search.
    """
    matches = fulltext.matching(session, words)
    sort = sort or ("downloads" if matches is None else "relevance")
    if sort not in SORTS:
        raise HubIdError(f"adapters are sorted by {', '.join(SORTS)}, not by {sort!r}")
    if sort == "relevance" and matches is None:
        sort = "downloads"
    limit = max(1, min(limit, MOST))
    wanted = select(Adapter).join(Adapter.repository).where(policy.visible(actor), condition(session, filters))
    relevance: ColumnElement[Any] | None = None
    if matches is not None:
        found = matches.subquery()
        wanted, relevance = wanted.join(found, found.c.id == Adapter.repository_id), found.c.relevance
    order = _order(sort, relevance)
    keys = [one.label(f"key{number}") for number, one in enumerate(order.columns)]
    if after is not None:
        place, values = tuple_(*order.columns), tuple_(*_read(after, sort, len(keys)))
        wanted = wanted.where(place < values if order.descending else place > values)
    ordered = [one.desc() if order.descending else one for one in order.columns]
    rows = session.execute(wanted.add_columns(*keys).order_by(*ordered).limit(limit + 1)).all()
    more = _write(sort, rows[limit - 1][1:]) if len(rows) > limit else None
    return Page([row[0] for row in rows[:limit]], more)


def count(session: Session, actor: Actor, filters: Filters = Filters(), *, words: str = "") -> int:  # noqa: B008
    """How many adapters ``search`` finds."""
    return session.scalar(selected(session, actor, filters, words, func.count())) or 0


def selected(session: Session, actor: Actor, filters: Filters, words: str, *columns: Any) -> Select[Any]:
    """These columns of the adapters that ``search`` finds."""
    wanted = select(*columns).select_from(Adapter).join(Repository, Repository.id == Adapter.repository_id)
    wanted = wanted.where(policy.visible(actor), condition(session, filters))
    if (matches := fulltext.matching(session, words)) is not None:
        wanted = wanted.where(Adapter.repository_id.in_(matches.with_only_columns(matches.selected_columns.id)))
    return wanted


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
                .where(begins(Dataset.slug, Dataset.title), Task.kind == "task")
                .limit(limit)
            )
        ),
        *(
            Suggestion("base", name, name)
            for name in session.scalars(
                select(func.min(BaseModel.name)).where(begins(BaseModel.key)).group_by(BaseModel.key).limit(limit)
            )
        ),
    ][:limit]
    if len(found) < limit:
        page = search(session, actor, words=typed.strip(), limit=limit - len(found))
        found += [Suggestion("adapter", one.repository.full_name, one.title) for one in page.adapters]
    return found


def _order(sort: Sort, relevance: ColumnElement[Any] | None) -> _Order:
    last = Repository.id
    match sort:
        case "relevance":
            assert relevance is not None
            return _Order((relevance, Repository.downloads, last), True)
        case "downloads" | "likes" | "updated" | "created":
            return _Order((getattr(Repository, sort), last), True)
        case "score":
            return _Order((Adapter.verified, func.coalesce(Adapter.merit, _NO_SCORE), last), True)
        case "size":
            return _Order((Adapter.size, last), False)
        case "name":
            return _Order((Repository.key, last), False)


def _write(sort: Sort, values: Any) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps([sort, *plain]).encode()).decode().rstrip("=")


def _read(cursor: str, sort: Sort, length: int) -> list[Any]:
    try:
        kind, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if kind != sort or len(values) != length:
            raise ValueError(kind)
        return [datetime.fromisoformat(values[0]), *values[1:]] if sort in ("updated", "created") else values
    except (ValueError, TypeError, binascii.Error) as error:
        raise HubIdError(f"{cursor[:80]!r} continues no search sorted by {sort}: start from its first page") from error
