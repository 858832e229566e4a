"""Routes whose addresses are read before they are unquoted, and what clients write in them."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Scope

from adapterhub.hub.server.context import public_url


class _Quoted:
    """Matches an address as it was sent, so that ``refs%2Fheads%2Fmain`` is one part of it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw = scope.get("raw_path")
        if scope["type"] != "http" or raw is None:
            return super().matches(scope)  # type: ignore[misc]
        match, child = super().matches({**scope, "path": raw.decode("latin-1")})  # type: ignore[misc]
        if "path_params" in child:
            child["path_params"] = {name: unquote(value) for name, value in child["path_params"].items()}
            child["route"] = self  # for measurements
        return match, child


class PlainRoute(_Quoted, Route):
    """A route of Starlette, for what has to be fast."""


class QuotedRoute(_Quoted, APIRoute):
    """A route of FastAPI."""


def router() -> APIRouter:
    """A router of this protocol, which has no place in the description of the API."""
    return APIRouter(route_class=QuotedRoute, include_in_schema=False)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


# Some clients write True, others true.
Flag = Annotated[bool, BeforeValidator(_lower)]


def next_page(request: Request, **changes: str) -> Mapping[str, str]:
    """The header that leads to the rest of a list: the same address with other parameters."""
    url = f"{public_url(request)}{request.scope['raw_path'].decode('latin-1')}"
    query = request.url.include_query_params(**changes).query
    return {"Link": f'<{url}?{query}>; rel="next"'}
