"""Errors as pages."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import Visitor, visitor_of

_HELP = {
    403: "You are not allowed to do this",
    404: "There is nothing here",
    429: "Too many attempts",
    500: "Something went wrong on our side",
}


def error_page(request: Request, status: int, title: str, message: str, headers: dict[str, str]) -> Response:
    """An error as a page; who has to sign in first is led there, and back."""
    if status == 401:
        back = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/login?next={quote(back, safe='/')}", 303)
    visitor = Visitor() if status >= 500 else visitor_of(request)
    return page(
        request,
        visitor,
        "error",
        status=status,
        headers=headers,
        code=status,
        title=_HELP.get(status, title),
        message=message if message != title else "",
    )
