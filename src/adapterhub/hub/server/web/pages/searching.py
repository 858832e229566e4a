"""Search: results with facets, and what somebody may mean who has begun to type."""

from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from adapterhub.hub.server.catalogue.search import Suggestion, suggest
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.web.listing import listing
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_PATHS = {
    "task": "/explore/tasks/{}",
    "language": "/explore/languages/{}",
    "dataset": "/explore/tasks/{}",
    "base": "/models/{}",
    "adapter": "/{}",
}
_NOTES = {"task": "task", "language": "language", "dataset": "data set", "base": "base model", "adapter": "adapter"}


@router.get("/search")
def search_page(request: Request, visitor: TheVisitor, hub: TheHub) -> Response:
    """What was found."""
    with hub.database.read() as session:
        found = listing(session, visitor.actor, "/search", request.query_params)
        return page(request, visitor, "search", list=found)


@router.get("/compositions")
def compositions() -> Response:
    """Whole setups: stacks, fusions and what else is made of several adapters."""
    return go("/search?kind=composition")


@router.get("/search/suggest")
def suggestions(visitor: TheVisitor, hub: TheHub, q: str = "") -> Response:
    """What begins like what was typed, for the list below the field."""
    with hub.database.read() as session:
        found = suggest(session, visitor.actor, q[:100])
    return JSONResponse([_suggestion(one) for one in found], headers={"Cache-Control": "private, no-cache"})


def _suggestion(one: Suggestion) -> dict[str, str]:
    title = one.name if one.kind == "adapter" else one.title
    return {"path": _PATHS[one.kind].format(quote(one.name)), "title": title, "note": _NOTES[one.kind]}
