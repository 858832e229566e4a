"""What happens to every request before a route sees it, and to every answer after."""

import re
from functools import partial

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from adapterhub.http.bodies import Bodies
from adapterhub.http.headers import Headers, bearer
from adapterhub.http.limits import Allowance, Limited, network
from adapterhub.http.observing import Observed
from adapterhub.hub.server import failures
from adapterhub.hub.server.accounts import is_token
from adapterhub.hub.server.errors import RateLimitError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.limits import Askers, Limiter
from adapterhub.hub.server.web.visitor import SESSION

# Bodies that are written to a file as they come, by routes that have limits of their own.
_STREAMED = re.compile(r"/lfs/(?:whole|part)/|/xet/|/api/models/[^/]+/[^/]+/commit/|/upload/file$")
_LONGEST_BODY = 8 << 20
# Addresses that let whoever has them do something, and what looks like a token of ours or of another hub.
_SECRET = re.compile(r"(?<=^/lfs/)(\w+)/.*|(?<=^/xet/).*|\b(?:ah|hf)_\w+", re.ASCII)


def add_middleware(app: FastAPI, hub: Hub, limiter: Limiter) -> None:
    """Put these around an application, the last one outermost."""
    app.add_middleware(Bodies, limit=partial(_longest, hub.settings.quota_bytes), refuse=failures.answer)
    app.add_middleware(Limited, count=partial(_count, limiter, Askers(hub.database)), refuse=_too_many)
    app.add_middleware(Observed, log=hub.settings.access_log, secret=_SECRET)
    app.add_middleware(Headers)


def _longest(form_bytes: int, path: str) -> int | None:
    """How long a body may be; ``form_bytes`` for a form that brings files."""
    if _STREAMED.match(path):
        return None
    return form_bytes if path == "/upload" else _LONGEST_BODY


async def _count(limiter: Limiter, askers: Askers, scope: Scope) -> Allowance:
    """Count a request of an account, or else of an address."""
    if (value := _credential(Request(scope))) is not None:
        known, account = askers.known(value)
        if not known:
            account = await run_in_threadpool(askers.find, value)
        if account is not None:
            scope.setdefault("state", {})["account"] = account
            return limiter.count(f"account {account}", scope["method"])
    return limiter.count(network((scope.get("client") or ("",))[0]), scope["method"])


def _too_many(request: Request, allowance: Allowance) -> Response:
    return failures.answer(request, RateLimitError(str(allowance), allowance.seconds))


def _credential(request: Request) -> str | None:
    """What says who asks: a token of ours, or the cookie of a session."""
    token = bearer(request)
    return token if token is not None and is_token(token) else request.cookies.get(SESSION)
