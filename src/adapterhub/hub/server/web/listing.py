"""A list of adapters beside what it can be narrowed to: on the search page, and at each step of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.facets import Value, facets
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.search import SORTS, Sort, count, search
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.items import Item, item
from adapterhub.hub.server.web.rendering import address

TITLES = {
    "task": "Task or language",
    "dataset": "Data set",
    "language": "Language",
    "base": "Base model",
    "method": "Method",
    "verified": "Scores",
    "format": "Format",
    "license": "Licence",
    "kind": "Kind",
    "head": "Head",
}
_SORT_TITLES: Mapping[Sort, str] = {
    "relevance": "Best match",
    "downloads": "Most used",
    "likes": "Most liked",
    "updated": "Newest",
    "created": "First published",
    "score": "Best score",
    "size": "Smallest",
}
_WORDS = {"method": wording.method, "format": wording.file_format}
_KINDS = {"adapter": "Adapter", "fusion": "Fusion", "composition": "Composition", "head": "Head"}
_MOST = 20  # values of one filter
_LONGEST = 300  # letters of a question


@dataclass(frozen=True)
class Choice:
    """A value that a list can be narrowed to, or by which it is; ``path`` changes that."""

    title: str
    count: int
    path: str
    on: bool


@dataclass(frozen=True)
class Facet:
    """The values of one kind."""

    name: str
    title: str
    choices: list[Choice]


@dataclass(frozen=True)
class Listing:
    """A page of a list.

    Attributes:
        items: the adapters of this page.
        total: how many there are on all pages.
        more: the address of the next page, or "".
        facets: what the list can be narrowed to.
        chosen: what it is narrowed to, each with the address of the list without that.
        sorts: titles of ways to sort, by their names.
        sort: the one that is used.
        words: what was searched for.
        query: all that makes up the list, for the fields of a form.
    """

    items: list[Item]
    total: int
    more: str
    facets: list[Facet]
    chosen: list[Choice]
    sorts: Mapping[str, str]
    sort: str
    words: str
    query: Mapping[str, list[str]]


def listing(
    session: Session,
    actor: Actor,
    path: str,
    query: QueryParams,
    *,
    within: Filters = Filters(),  # noqa: B008
    names: tuple[str, ...] = tuple(TITLES),
    limit: int = 20,
) -> Listing:
    """The list that an address asks for.

    Args:
        path: of the page.
        query: the rest of its address.
        within: what the page is about, whatever the address asks for.
        names: of the facets to show.

    Raises:
        HubIdError: for a sort that there is none of, or a page of another list.
    """
    words = query.get("q", "")[:_LONGEST].strip()
    asked = {name: list(dict.fromkeys(query.getlist(name)))[:_MOST] for name in names if query.get(name)}
    filters = _filters(asked, within)
    default: Sort = "relevance" if words else "downloads"
    sort = query.get("sort") or default
    page = search(session, actor, filters, words=words, sort=sort, limit=limit, after=query.get("after"))  # type: ignore[arg-type]
    kept: dict[str, list[str]] = {"q": [words] if words else [], "sort": [sort] if sort != default else [], **asked}
    counted = facets(session, actor, filters, words=words, names=names)
    shown = [
        Facet(name, TITLES[name], [_choice(path, kept, name, one) for one in counted[name]])
        for name in names
        if len(counted[name]) > 1 or (counted[name] and name == "base") or asked.get(name)
    ]
    return Listing(
        [item(one) for one in page.adapters],
        count(session, actor, filters, words=words),
        address(path, kept, after=page.next) if page.next else "",
        shown,
        _chosen(path, kept, asked, shown),
        {one: _SORT_TITLES[one] for one in SORTS if one != "relevance" or words},
        sort,
        words,
        kept,
    )


def title_of(name: str, value: Value) -> str:
    """A value of a facet as a person reads it."""
    if name == "kind":
        return _KINDS.get(value.value, wording.words(value.value))
    if name == "dataset":
        return f"{value.title}, {value.value.partition('/')[0]}"
    return _WORDS[name](value.title) if name in _WORDS else value.title


def _filters(asked: Mapping[str, list[str]], within: Filters) -> Filters:
    plain = {one.name for one in fields(Filters)} - {"verified", "withdrawn", "bases", "min_size", "max_size"}
    values: dict[str, object] = {name: tuple(values) for name, values in asked.items() if name in plain}
    if asked.get("verified"):
        values["verified"] = asked["verified"][0] == "true"
    return replace(within, **values)  # type: ignore[arg-type]


def _choice(path: str, kept: Mapping[str, list[str]], name: str, value: Value) -> Choice:
    before = kept.get(name, [])
    on = value.value in before
    after = [one for one in before if one != value.value] if on else [*before, value.value]
    if name == "verified":
        after = [] if on else [value.value]
    return Choice(title_of(name, value), value.count, address(path, {**kept, name: after}), on)


def _chosen(
    path: str, kept: Mapping[str, list[str]], asked: Mapping[str, list[str]], shown: list[Facet]
) -> list[Choice]:
    """What the list is narrowed to, also where nothing is left of it."""
    known = {(facet.name, choice.path): choice for facet in shown for choice in facet.choices if choice.on}
    made = list(known.values())
    for name, values in asked.items():
        for value in values:
            without = address(path, {**kept, name: [one for one in values if one != value]})
            if (name, without) not in known:
                made.append(Choice(value, 0, without, True))
    return made
