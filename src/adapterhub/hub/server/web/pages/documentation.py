"""The API, as its OpenAPI description has it."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from adapterhub.hub.server.context import public_url
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Call:
    """Something that the API does."""

    method: str
    path: str
    summary: str
    description: str
    parameters: list[tuple[str, str, bool]]  # name, what it is, whether it has to be there
    takes_body: bool


@router.get("/docs")
def docs_page(request: Request, visitor: TheVisitor) -> Response:
    """All calls, by what they are about."""
    app: FastAPI = request.app
    return page(request, visitor, "docs", groups=_groups(app.openapi()), address_of_hub=public_url(request))


def _groups(openapi: dict[str, Any]) -> dict[str, list[Call]]:
    made: dict[str, list[Call]] = {}
    for path, item in openapi.get("paths", {}).items():
        for method in _METHODS:
            if (found := item.get(method)) is not None:
                made.setdefault(next(iter(found.get("tags") or ["other"])), []).append(_call(path, method, found))
    return made


def _call(path: str, method: str, found: dict[str, Any]) -> Call:
    parameters = [
        (
            one["name"],
            one.get("description") or one.get("schema", {}).get("description", ""),
            one.get("required", False),
        )
        for one in found.get("parameters", [])
    ]
    text = found.get("description") or found.get("summary", "")
    first, _, rest = text.partition("\n\n")
    return Call(method.upper(), path, first, rest, parameters, "requestBody" in found)
