"""Routes whose answers a client need not fetch twice."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

_READS = ("GET", "HEAD")


class _Tagged(APIRoute):
    """Gives what is read an ETag, and answers with that alone to who has it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def tagged(request: Request) -> Response:
            answer = await handler(request)
            if request.method not in _READS or answer.status_code != 200:
                return answer
            tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
            headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
            if _has(request.headers.get("if-none-match", ""), tag):
                return Response(status_code=304, headers=headers)
            answer.headers.update(headers)
            return answer

        return tagged


def router(tag: str) -> APIRouter:
    """A router of the API; ``tag`` is its chapter in the description."""
    return APIRouter(prefix="/api/v1", tags=[tag], route_class=_Tagged)


def _has(header: str, tag: str) -> bool:
    """Whether a client has said that it has what is tagged so."""
    known = {one.strip().removeprefix("W/") for one in header.split(",")}
    return tag in known or "*" in known
