"""Files that the pages use, and what robots may read."""

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from adapterhub.hub.server.web.rendering import ASSETS

router = APIRouter()
router.include_router(ASSETS.router())
_NOT_FOR_ROBOTS = ("/api/", "/search", "/settings", "/*/resolve/", "/*/download/")


@router.get("/robots.txt")
def robots() -> Response:
    """What robots may read."""
    return PlainTextResponse("".join(["User-agent: *\n", *(f"Disallow: {path}\n" for path in _NOT_FOR_ROBOTS)]))


@router.get("/favicon.ico")
def icon(request: Request) -> Response:
    """The icon, for who asks for it by this name."""
    return RedirectResponse(ASSETS.address("mark.svg"), 308)
