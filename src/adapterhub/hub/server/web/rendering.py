"""Pages from templates: every value is escaped, and no page holds a script or a style of its own."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapterhub.http.assets import Assets
from adapterhub.hub.server.context import hub_of
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.visitor import Visitor, keep_cookie

ASSETS = Assets(Path(__file__).with_name("static"))
_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "same-origin",  # without an origin, browsers say of no form where it came from
}
_SAID = {
    "saved": "Saved.",
    "welcome": "Welcome.",
    "password": "Your password was changed. Other devices are signed out.",
    "revoked": "The token was revoked: whatever uses it is refused from now on.",
    "published": "Published.",
    "moved": "Renamed. The old address leads here.",
    "deleted": "Deleted.",
    "sent": "It is sent again.",
    "signed-out": "You are signed out.",
}


def page(
    request: Request,
    visitor: Visitor,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page, made of ``templates/<template>.html`` and the values."""
    settings = hub_of(request).settings
    content = (
        environment()
        .get_template(f"{template}.html")
        .render(
            request_path=request.url.path,
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            said=_SAID.get(request.query_params.get("said", "")),
            visitor=visitor,
            open_registration=settings.open_registration,
            oidc=bool(settings.oidc_issuer),
            **values,
        )
    )
    response = HTMLResponse(content, status, {**_HEADERS, **(headers or {})})
    keep_cookie(request, response, visitor)
    return response


def go(path: str, said: str = "") -> Response:
    """On to another page of this site, after something was done; ``said`` is one of the messages above."""
    if said:
        path += ("&" if "?" in path else "?") + urlencode({"said": said})
    return RedirectResponse(path, 303)


@cache
def environment() -> Environment:
    """How templates are read."""
    made = Environment(
        loader=PackageLoader("adapterhub.hub.server.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(static=ASSETS.address, address=address)
    made.filters.update(wording.FILTERS, segment=segment)
    return made


def segment(value: Any) -> str:
    """A part of a path."""
    return quote(str(value), safe="@+")


def address(path: str, values: Mapping[str, Any] | None = None, **more: Any) -> str:
    """A path with a query, without the values that are empty; a list stands for several of one name."""
    merged = {**(values or {}), **more}
    kept = {name: value for name, value in merged.items() if value not in (None, "", [], ())}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path
