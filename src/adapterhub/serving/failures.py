"""How an error is told."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapterhub.errors import AdapterHubError, AmbiguousAdapterError
from adapterhub.http.headers import HEADERS
from adapterhub.http.problems import Problem, described, invalid, problem
from adapterhub.serving import errors


def add_handlers(app: FastAPI) -> None:
    """Have the application tell errors by these functions."""
    app.add_exception_handler(AdapterHubError, answer)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(Exception, _unexpected)


def answer(request: Request, error: Any) -> Response:
    """How an error of ours, or an ``HTTPException``, is told to whoever made a request."""
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))
    headers = {}
    if isinstance(error, errors.NoTokenError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooBusyError):
        headers["Retry-After"] = str(error.wait)
    more = {"candidates": error.candidates} if isinstance(error, AmbiguousAdapterError) else {}
    return problem(errors.status(error), str(error), headers, more)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation: of all, to what is malformed, or too much."""
    return {status: described(Problem) for status in (400, 401, 413, 422, 429, *statuses)}


def _invalid(request: Request, error: Any) -> Response:
    return problem(422, invalid(error.errors()), {})


def _unexpected(request: Request, error: Any) -> Response:
    """An error of ours, which the log tells; the handler stands outside of the middleware and sets its headers."""
    return problem(500, "something went wrong here, and the log of the server says what", dict(HEADERS))
