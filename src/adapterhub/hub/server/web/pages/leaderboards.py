"""The adapters of each data set by their scores."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.catalogue.facets import facets
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.leaderboard import boards, leaderboard
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter(prefix="/leaderboards")
_BY = ("base", "method")


@router.get("")
def boards_page(request: Request, visitor: TheVisitor, hub: TheHub) -> Response:
    """All data sets that have scores."""
    with hub.database.read() as session:
        return page(request, visitor, "leaderboards", boards=boards(session, visitor.actor))


@router.get("/{slug}/{dataset}")
def board_page(
    request: Request,
    visitor: TheVisitor,
    hub: TheHub,
    slug: str,
    dataset: str,
    metric: str = "",
    base: str = "",
    method: str = "",
) -> Response:
    """The adapters of one data set."""
    with hub.database.read() as session:
        task = taxonomy.task(session, slug)
        found = taxonomy.dataset(session, task, dataset)
        within = Filters(dataset=(f"{task.slug}/{found.slug}",))
        filters = Filters(base=(base,) if base else (), method=(method,) if method else ())
        return page(
            request,
            visitor,
            "leaderboard",
            task=task,
            dataset=found,
            board=leaderboard(session, visitor.actor, found, metric=metric or None, filters=filters),
            choices=facets(session, visitor.actor, within, names=_BY),
            chosen={"metric": metric, "base": base, "method": method},
        )
