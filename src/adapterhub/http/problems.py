"""How an API says that it cannot do what it was asked."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error in words (RFC 9457, ``application/problem+json``)."""

    type: str
    title: str
    status: int
    detail: str


def problem(
    status: int, detail: str, headers: Mapping[str, str], more: Mapping[str, Any] = MappingProxyType({})
) -> Response:
    """A problem as an answer; ``more`` is told with it."""
    content = {"type": "about:blank", "title": title(status), "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def described(model: type[Problem]) -> dict[str, Any]:
    """A problem in the description of a route."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"model": model, "content": {MEDIA_TYPE: {"schema": schema}}}


def invalid(errors: Iterable[Mapping[str, Any]]) -> str:
    """What is wrong with a request, from the errors of its validation."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors)


def title(status: int) -> str:
    """What a status is called."""
    return HTTPStatus(status).phrase
