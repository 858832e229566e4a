"""Lists of repositories by what clients filter and sort by, in pages that stay in step when others publish."""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, Self

from fastapi import Query, Request
from pydantic import AfterValidator
from sqlalchemy import ColumnElement, and_, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager, lazyload
from starlette.responses import JSONResponse, Response

from adapterhub.errors import HubError
from adapterhub.hub.server import policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Account, Adapter, AdapterTag, BaseModel, Commit, Dataset, Ref, Repository
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.protocol import describing, tags
from adapterhub.hub.server.protocol.cards import card_data
from adapterhub.hub.server.protocol.models import chosen
from adapterhub.hub.server.protocol.routing import Flag, next_page, router

_PAGE, _PAGE_WITH_FILES = 1000, 100
_SORTS: dict[str, InstrumentedAttribute[Any]] = {
    "": Repository.id,
    "createdAt": Repository.created,
    "lastModified": Repository.updated,
    "downloads": Repository.downloads,
    "likes": Repository.likes,
    "trendingScore": Repository.likes,
}
_SIZES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

routes = router()


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text with a zero in it is the name of nothing")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
Texts = Annotated[list[Text], Query(default_factory=list)]


@dataclass(frozen=True)
class Wanted:
    """What a list is to hold.

    Attributes:
        filter: tags, all of which an adapter has to have.
        search: words, all of which the name has to hold.
        author: the owner.
        pipeline_tag: one tag more.
        parameters: least and most number of parameters.
        nothing: for what no adapter here has: a gate, an inference provider.
    """

    filter: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    author: str | None = None
    pipeline_tag: str | None = None
    parameters: tuple[int | None, int | None] = (None, None)
    nothing: bool = False

    def conditions(self) -> Iterable[ColumnElement[bool]]:
        """What a query over repositories, joined to all that is known of their adapters, asks for."""
        yield Repository.withdrawn.is_(None)
        yield from (tags.has(tag) for tag in self.filter)
        yield from (Repository.key.contains(word.lower(), autoescape=True) for word in self.search)
        if self.author is not None:
            yield Account.key == self.author.lower()
        if self.pipeline_tag is not None:
            yield tags.has(self.pipeline_tag)
        least, most = self.parameters
        if least is not None:
            yield Adapter.parameters >= least
        if most is not None:
            yield Adapter.parameters <= most
        if self.nothing:
            yield false()


@dataclass(frozen=True)
class Order:
    """How a list is sorted: by one column, and by the order of creation where that is the same."""

    sort: str = ""
    ascending: bool = False

    def clauses(self) -> list[Any]:
        """For ``ORDER BY``."""
        columns = [_SORTS[self.sort], Repository.id]
        return [column.asc() if self.ascending else column.desc() for column in columns]

    def after(self, cursor: "Cursor") -> ColumnElement[bool]:
        """All that comes after a place."""
        column, value = _SORTS[self.sort], cursor.value
        if column in (Repository.created, Repository.updated):
            value = datetime.fromisoformat(value)
        ids = Repository.id > cursor.id if self.ascending else Repository.id < cursor.id
        return or_(column > value if self.ascending else column < value, and_(column == value, ids))

    def cursor(self, repository: Repository) -> "Cursor":
        """The place of a repository."""
        value = getattr(repository, _SORTS[self.sort].key)
        return Cursor(value.isoformat() if isinstance(value, datetime) else value, repository.id)


@dataclass(frozen=True)
class Cursor:
    """A place in a list: the sorted value and the id of the last repository of a page."""

    value: Any
    id: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.value, self.id]).encode()).decode()

    @classmethod
    def parse(cls, text: str, order: Order) -> Self:
        """Read back what ``str`` gives, of this order.

        Raises:
            HubError: for anything else.
        """
        try:
            value, id_ = json.loads(base64.urlsafe_b64decode(text.encode()))
            if order.sort in ("createdAt", "lastModified"):
                datetime.fromisoformat(value).astimezone(UTC)
                return cls(value, _number(id_))
            return cls(_number(value), _number(id_))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise HubError("the cursor is not one of this list: start from its first page") from error


class _Found(NamedTuple):
    repository: Repository
    adapter: Adapter | None
    oid: str


@routes.get("/api/models")
def models(
    request: Request,
    hub: TheHub,
    actor: TheActor,
    filter: Texts,
    search: Texts,
    expand: Texts,
    apps: Texts,
    author: Text | None = None,
    pipeline_tag: Text | None = None,
    num_parameters: str | None = None,
    gated: Flag | None = None,
    inference: str | None = None,
    inference_provider: str | None = None,
    sort: str = "",
    direction: int = -1,
    limit: Annotated[int, Query(ge=1)] = _PAGE,
    cursor: str | None = None,
    full: Flag = False,
    cardData: Flag = False,  # noqa: N803
) -> Response:
    """Repositories that may be seen, with all the properties that are asked for."""
    if sort not in _SORTS:
        raise HubError(f"a list is sorted by {', '.join(name for name in _SORTS if name)}, not by {sort!r}")
    nothing = bool(gated or apps or inference or inference_provider)
    words = tuple(word for text in search for word in text.split())
    wanted = Wanted(tuple(filter), words, author, pipeline_tag, _parameters(num_parameters), nothing)
    order = Order(sort, ascending=direction == 1)
    with_files = bool(full or cardData or {"siblings", "cardData"} & set(expand))
    size = min(limit, _PAGE_WITH_FILES if with_files else _PAGE)
    place = None if cursor is None else Cursor.parse(cursor, order)
    with hub.database.read() as session:
        found = _page(session, actor, wanted, order, place, size + 1)
        more, found = len(found) > size, found[:size]
        made = _described(session, found)
        if with_files:
            files = _files(session, found)
    if full or "siblings" in expand:
        for one, its_files in zip(made, files, strict=True):
            one["siblings"] = [describing.sibling(path, file, False) for path, file in its_files.items()]
    if cardData or "cardData" in expand:
        for one, its_files in zip(made, files, strict=True):
            one["cardData"] = card_data(hub, its_files)
    rest = next_page(request, cursor=str(order.cursor(found[-1].repository))) if more else None
    return JSONResponse([chosen(one, expand) for one in made], headers=rest)


def _page(
    session: Session, actor: Actor, wanted: Wanted, order: Order, place: Cursor | None, size: int
) -> list["_Found"]:
    statement = (
        select(Repository, Adapter, Ref.oid)
        .join(Ref, and_(Ref.repository_id == Repository.id, Ref.kind == "branch", Ref.name == repositories.MAIN))
        .join(Account, Account.id == Repository.owner_id)
        .outerjoin(Adapter, Adapter.repository_id == Repository.id)
        .outerjoin(BaseModel, BaseModel.id == Adapter.base_id)
        .outerjoin(Dataset, Dataset.id == Adapter.dataset_id)
        .options(contains_eager(Repository.owner), contains_eager(Adapter.base), contains_eager(Adapter.dataset))
        .options(lazyload(Adapter.repository), lazyload(Adapter.task), lazyload(Adapter.dataset, Dataset.task))
        .where(policy.visible(actor), *wanted.conditions())
        .order_by(*order.clauses())
        .limit(size)
    )
    if place is not None:
        statement = statement.where(order.after(place))
    return [_Found(*row) for row in session.execute(statement)]


def _described(session: Session, found: Iterable["_Found"]) -> list[dict[str, Any]]:
    own: dict[int, list[str]] = {one.repository.id: [] for one in found}
    for repository_id, tag in session.execute(
        select(AdapterTag.repository_id, AdapterTag.tag).where(AdapterTag.repository_id.in_(own))
    ):
        own[repository_id].append(tag)
    return [describing.model(one.repository, one.adapter, own[one.repository.id], one.oid) for one in found]


def _files(session: Session, found: Iterable["_Found"]) -> list[dict[str, Entry]]:
    return [repositories.files(session.get_one(Commit, (one.repository.id, one.oid))) for one in found]


def _parameters(text: str | None) -> tuple[int | None, int | None]:
    """``min:10M,max:1B``, either or both."""
    found: dict[str, int] = {}
    for part in (text or "").split(",") if text else ():
        match = re.fullmatch(r"(min|max):(\d{1,9}(?:\.\d{1,9})?)([KMBT]?)", part.strip(), re.ASCII)
        if match is None:
            raise HubError(f"{part!r} is no number of parameters: write min:10M,max:1B")
        found[match[1]] = int(float(match[2]) * _SIZES[match[3]])
    return found.get("min"), found.get("max")


def _number(value: Any) -> int:
    if not isinstance(value, int) or not -(1 << 62) < value < 1 << 62:
        raise ValueError("no number of a list")
    return value
