"""The catalogue step by step: tasks or languages, then data sets or texts, then adapters; with counts at each."""

from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.leaderboard import leaderboard
from adapterhub.hub.server.catalogue.tree import Branch, level, roots
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.web.listing import TITLES, listing
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter(prefix="/explore")
Kinds = Literal["tasks", "languages"]
_BELOW = tuple(name for name in TITLES if name not in ("task", "dataset", "language"))


@router.get("")
@router.get("/")
def start() -> Response:
    """Where exploring begins."""
    return go("/explore/tasks")


@router.get("/{kind}")
def roots_page(request: Request, visitor: TheVisitor, hub: TheHub, kind: Kinds) -> Response:
    """All tasks, or all languages."""
    with hub.database.read() as session:
        found = roots(session, visitor.actor, "task" if kind == "tasks" else "language")
        return page(request, visitor, "explore", kind=kind, branches=_fullest(found))


@router.get("/{kind}/{slug}")
def task_page(request: Request, visitor: TheVisitor, hub: TheHub, kind: Kinds, slug: str) -> Response:
    """A task or a language: its data sets or texts, and all adapters in it."""
    with hub.database.read() as session:
        task = taxonomy.task(session, slug)
        if task.kind != kind.removesuffix("s"):
            return go(f"/explore/{task.kind}s/{task.slug}")
        within = Filters(task=(task.slug,))
        found = listing(session, visitor.actor, request.url.path, request.query_params, within=within, names=_BELOW)
        below = level(session, visitor.actor, within)
        return page(request, visitor, "task", kind=kind, task=task, branches=_fullest(below.branches), list=found)


@router.get("/{kind}/{slug}/{dataset}")
def dataset_page(request: Request, visitor: TheVisitor, hub: TheHub, kind: Kinds, slug: str, dataset: str) -> Response:
    """A data set: its adapters, and the best of them by score."""
    with hub.database.read() as session:
        task = taxonomy.task(session, slug)
        found = taxonomy.dataset(session, task, dataset)
        value = f"{task.slug}/{found.slug}"
        within = Filters(dataset=(value,))
        branch = _find(level(session, visitor.actor, Filters(task=(task.slug,))).branches, value)
        return page(
            request,
            visitor,
            "dataset",
            kind=f"{task.kind}s",
            task=task,
            dataset=found,
            lineage=taxonomy.lineage(session, found)[:0:-1],
            parts=_fullest(branch.parts),
            board=leaderboard(session, visitor.actor, found, limit=5),
            list=listing(session, visitor.actor, request.url.path, request.query_params, within=within, names=_BELOW),
        )


def _fullest(branches: Iterable[Branch]) -> list[Branch]:
    """Those with adapters first, the most first; the others by title."""
    return sorted(branches, key=lambda one: -one.count)


def _find(branches: Iterable[Branch], value: str) -> Branch:
    for one in branches:
        if one.value == value:
            return one
        if value in {part.value for part in _flat(one.parts)}:
            return _find(one.parts, value)
    raise HubNotFoundError(f"there is no data set {value}")


def _flat(branches: Iterable[Branch]) -> Iterable[Branch]:
    for one in branches:
        yield one
        yield from _flat(one.parts)
