"""Bodies of requests that are too long, or that do not come."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BODY_SECONDS = 60.0


class Bodies:
    """Refuse bodies that are longer than any that a route would read at once, and those that do not come.

    Args:
        limit: how many bytes a body may have that goes to a path; None for any number.
        refuse: how an error is told to whoever made a request.
    """

    def __init__(
        self, app: ASGIApp, limit: Callable[[str], int | None], refuse: Callable[[Request, Any], Response]
    ) -> None:
        self.app, self._limit, self._refuse = app, limit, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if limit is not None and announced.isdigit() and int(announced) > limit:
            await self._refuse(Request(scope), _too_long(limit))(scope, receive, send)
            return
        size, complete = 0, False

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), _BODY_SECONDS)
            except TimeoutError:
                raise HTTPException(408, "the body of the request does not come") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if limit is not None and size > limit:
                raise _too_long(limit)
            return message

        await self.app(scope, limited, send)


def _too_long(limit: int) -> HTTPException:
    return HTTPException(413, f"the body of the request is longer than {limit:,} bytes")
