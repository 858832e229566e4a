"""What happens to every request before a route sees it, and to every answer after."""

import asyncio
import re
import secrets

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapterhub.hub.server import counters, failures
from adapterhub.hub.server.accounts import is_token
from adapterhub.hub.server.context import bearer
from adapterhub.hub.server.errors import RateLimitError
from adapterhub.hub.server.headers import HEADERS
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.limits import Askers, Limiter, network
from adapterhub.hub.server.observing import Observed
from adapterhub.hub.server.web.visitor import SESSION

_NOT_COUNTED, _STATIC = ("/health", "/ready", "/metrics"), "/static/"
# Bodies that are written to a file as they come, by routes that have limits of their own.
_STREAMED = re.compile(r"/lfs/(?:whole|part)/|/xet/|/api/models/[^/]+/[^/]+/commit/|/upload/file$")
_LONGEST_BODY = 8 << 20
_BODY_SECONDS = 60.0


def add_middleware(app: FastAPI, hub: Hub, limiter: Limiter) -> None:
    """Put these around an application, the last one outermost."""
    app.add_middleware(Bodies, form_bytes=hub.settings.quota_bytes)
    app.add_middleware(Limited, limiter=limiter, askers=Askers(hub.database))
    app.add_middleware(Observed, log=hub.settings.access_log)
    app.add_middleware(Headers)


class Headers:
    """Give every answer an id and the headers that keep browsers from doing harm, unless a route set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = scope.setdefault("state", {})["request_id"] = secrets.token_hex(8)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = number
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)


class Limited:
    """Refuse the requests of whoever makes more of them than are allowed, and tell everybody how many are left."""

    def __init__(self, app: ASGIApp, limiter: Limiter, askers: Askers) -> None:
        self.app, self._limiter, self._askers = app, limiter, askers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NOT_COUNTED or scope["path"].startswith(_STATIC):
            await self.app(scope, receive, send)
            return
        allowance = self._limiter.count(await self._who(scope), scope["method"])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowance.headers())
            await send(message)

        if allowance.left < 0:
            counters.LIMITED.labels(allowance.kind).inc()
            words = f"more than {allowance.limit} {allowance.kind} in a minute: wait {allowance.seconds} seconds"
            answer = failures.answer(Request(scope), RateLimitError(words, allowance.seconds))
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)

    async def _who(self, scope: Scope) -> str:
        if (value := _credential(Request(scope))) is not None:
            known, account = self._askers.known(value)
            if not known:
                account = await run_in_threadpool(self._askers.find, value)
            if account is not None:
                scope.setdefault("state", {})["account"] = account
                return f"account {account}"
        return network((scope.get("client") or ("",))[0])


def _credential(request: Request) -> str | None:
    """What says who asks: a token of ours, or the cookie of a session."""
    token = bearer(request)
    return token if token is not None and is_token(token) else request.cookies.get(SESSION)


class Bodies:
    """Refuse bodies that are longer than any that a route would read at once, and those that do not come.

    Args:
        form_bytes: how long a form may be that brings files.
    """

    def __init__(self, app: ASGIApp, form_bytes: int) -> None:
        self.app, self._form_bytes = app, form_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if limit is not None and announced.isdigit() and int(announced) > limit:
            await failures.answer(Request(scope), _too_long(limit))(scope, receive, send)
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

    def _limit(self, path: str) -> int | None:
        if _STREAMED.match(path):
            return None
        return self._form_bytes if path == "/upload" else _LONGEST_BODY


def _too_long(limit: int) -> HTTPException:
    return HTTPException(413, f"the body of the request is longer than {limit:,} bytes")
