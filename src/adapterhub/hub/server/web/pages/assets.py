"""Files that the pages use, and what robots may read."""

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from adapterhub.hub.server.web.rendering import STATIC, static

router = APIRouter()
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_NAMES = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}
_FOR_EVER = "public, max-age=31536000, immutable"
_NOT_FOR_ROBOTS = ("/api/", "/search", "/settings", "/*/resolve/", "/*/download/")


@router.get("/static/{name}")
def file(name: str, v: str = "") -> Response:
    """A file; with its version in the address it never changes."""
    if name not in _NAMES:
        raise HTTPException(404, f"there is no file {name}")
    path = _NAMES[name]
    return FileResponse(
        path, media_type=_TYPES[path.suffix], headers={"Cache-Control": _FOR_EVER if v else "public, max-age=300"}
    )


@router.get("/robots.txt")
def robots() -> Response:
    """What robots may read."""
    return PlainTextResponse("".join(["User-agent: *\n", *(f"Disallow: {path}\n" for path in _NOT_FOR_ROBOTS)]))


@router.get("/favicon.ico")
def icon(request: Request) -> Response:
    """The icon, for who asks for it by this name."""
    return RedirectResponse(static("mark.svg"), 308)
