"""The first page: what there is, and where to begin."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.hub.server.catalogue.facets import facets
from adapterhub.hub.server.catalogue.search import count, search
from adapterhub.hub.server.catalogue.tree import Branch, roots
from adapterhub.hub.server.context import TheHub, public_url
from adapterhub.hub.server.web.items import item
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_BRANCHES, _ITEMS = 10, 5


@router.get("/")
def home_page(request: Request, visitor: TheVisitor, hub: TheHub) -> Response:
    """Search, counts, the top of the tree, what is new and what is used."""
    with hub.database.read() as session:
        actor = visitor.actor
        tasks, languages = roots(session, actor, "task"), roots(session, actor, "language")
        bases = facets(session, actor, names=("base",))["base"]
        return page(
            request,
            visitor,
            "home",
            totals=[
                (count(session, actor), "adapters", "/search"),
                (_full(tasks), "tasks", "/explore/tasks"),
                (_full(languages), "languages", "/explore/languages"),
                (len(bases), "base models", "/models"),
            ],
            tasks=_first(tasks),
            languages=_first(languages),
            task_total=len(tasks),
            language_total=len(languages),
            used=[item(one) for one in search(session, actor, sort="downloads", limit=_ITEMS).adapters],
            newest=[item(one) for one in search(session, actor, sort="updated", limit=_ITEMS).adapters],
            address_of_hub=public_url(request),
        )


def _full(branches: tuple[Branch, ...]) -> int:
    return sum(one.count > 0 for one in branches)


def _first(branches: tuple[Branch, ...]) -> list[Branch]:
    """The fullest."""
    return sorted(branches, key=lambda one: (-one.count, one.title.lower()))[:_BRANCHES]
