"""How an error is told: to a client of the Hugging Face protocol, to one of the API, to a person."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from adapterhub.errors import AmbiguousAdapterError, HubError
from adapterhub.http.headers import HEADERS
from adapterhub.http.problems import invalid, problem, title
from adapterhub.hub.server import errors, web

_CODES: tuple[tuple[type[HubError], str], ...] = (
    (errors.RepositoryNotFoundError, "RepoNotFound"),
    (errors.RevisionNotFoundError, "RevisionNotFound"),
    (errors.EntryNotFoundError, "EntryNotFound"),
)
_API = "/api/v1/"
_PROTOCOL = ("/api/", "/xet/", "/lfs/")


def add_handlers(app: FastAPI) -> None:
    """Have the application tell errors by these functions."""
    app.add_exception_handler(HubError, answer)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(Exception, _unexpected)


def answer(request: Request, error: Any) -> Response:
    """How a ``HubError`` or an ``HTTPException`` is told to whoever made a request."""
    if isinstance(error, HTTPException):
        return _answer(request, error.status_code, str(error.detail), dict(error.headers or {}))
    candidates = {"candidates": error.candidates} if isinstance(error, AmbiguousAdapterError) else {}
    return _answer(request, errors.status(error), str(error), _headers(error), candidates)


def _invalid(request: Request, error: Any) -> Response:
    return _answer(request, 422, invalid(error.errors()), {})


def _unexpected(request: Request, error: Any) -> Response:
    """An error of ours, which the log tells; the handler stands outside of the middleware and sets its headers."""
    return _answer(request, 500, "something went wrong here, and the log of the server says what", dict(HEADERS))


def _headers(error: HubError) -> dict[str, str]:
    """What clients of the protocol read in the place of the body."""
    made = {"X-Error-Message": " ".join(str(error).encode("ascii", "replace").decode().split())}
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is not None:
        made["X-Error-Code"] = code
    if isinstance(error, errors.EntryNotFoundError):
        made["X-Repo-Commit"] = error.commit
    if isinstance(error, errors.NotSignedInError):
        made["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.RateLimitError):
        made["Retry-After"] = str(error.wait)
    return made


def _answer(
    request: Request, status: int, message: str, headers: dict[str, str], more: Mapping[str, Any] = MappingProxyType({})
) -> Response:
    path = request.url.path
    if path.startswith(_API) or path == "/metrics":
        return problem(status, message, headers, more)
    if path.startswith(_PROTOCOL) or "/resolve/" in path or ".git/" in path:
        return JSONResponse({"error": message}, status, headers)
    return web.error_page(request, status, title(status), message, headers)
