"""How many requests somebody may make within a minute."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapterhub.http import counters

MINUTE = 60
NOT_COUNTED = ("/health", "/ready", "/metrics")
_STATIC = "/static/"


@dataclass(frozen=True)
class Allowance:
    """What somebody has left.

    Attributes:
        kind: of requests: ``reads`` or ``writes``.
        limit: for a minute.
        left: of these; less than 0 if they were used up before.
        seconds: until there are all of them again.
    """

    kind: str
    limit: int
    left: int
    seconds: int

    def headers(self) -> dict[str, str]:
        """What clients read it from (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit": f'"{self.kind}";r={max(self.left, 0)};t={self.seconds}',
            "RateLimit-Policy": f'"fixed window";"{self.kind}";q={self.limit};w={MINUTE}',
        }

    def __str__(self) -> str:
        return f"more than {self.limit} {self.kind} in a minute: wait {self.seconds} seconds"


class Limited:
    """Refuse the requests of whoever makes more of them than are allowed, and tell everybody how many are left.

    Args:
        count: notes a request, and says what whoever made it has left.
        refuse: how one too many is told of.
    """

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[Scope], Awaitable[Allowance]],
        refuse: Callable[[Request, Allowance], Response],
    ) -> None:
        self.app, self._count, self._refuse = app, count, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED or scope["path"].startswith(_STATIC):
            await self.app(scope, receive, send)
            return
        allowance = await self._count(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowance.headers())
            await send(message)

        if allowance.left < 0:
            counters.LIMITED.labels(allowance.kind).inc()
            await self._refuse(Request(scope), allowance)(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


def network(address: str) -> str:
    """An address as one counts it: of IPv6 its first half, since that is what one machine has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
