"""The page to try a server on: a text, adapters side by side, and what they answer."""

from html import escape
from pathlib import Path
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapterhub.http.assets import Assets
from adapterhub.serving.api.context import server_of

_HERE = Path(__file__).parent
_ASSETS = Assets(_HERE / "static")
_PAGE = Template((_HERE / "page.html").read_text(encoding="utf-8"))

router = APIRouter(include_in_schema=False)
router.include_router(_ASSETS.router())


@router.get("/")
def page(request: Request) -> Response:
    """The page."""
    files = {name.partition(".")[0]: _ASSETS.address(name) for name in ("base.css", "theme.js", "mark.svg")}
    files |= {"style": _ASSETS.address("serving.css"), "script": _ASSETS.address("serving.js")}
    return HTMLResponse(
        _PAGE.substitute(files, model=escape(server_of(request).name)), headers={"Cache-Control": "no-cache"}
    )


@router.get("/favicon.ico")
def icon() -> Response:
    """The icon, for who asks for it by this name."""
    return RedirectResponse(_ASSETS.address("mark.svg"), 308)
