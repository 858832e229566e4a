"""Every request is counted, and told as a line of JSON where the settings say so."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapterhub.http import counters

_UNKNOWN = "unknown"


class Observed:
    """Measure requests.

    Args:
        log: whether each is told on standard error; never with its headers, body or query, which may hold secrets.
        secret: what of a path is not told either.
    """

    def __init__(self, app: ASGIApp, log: bool, secret: re.Pattern[str] | None = None) -> None:
        self.app, self._log, self._secret = app, log, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, seen = time.perf_counter(), _Seen()

        async def counted_receive() -> Message:
            message = await receive()
            seen.received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            seen.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, counted_receive, counted_send)
        finally:
            self._tell(scope, seen, time.perf_counter() - begun)

    def _tell(self, scope: Scope, seen: "_Seen", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _UNKNOWN)
        method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
        counters.REQUESTS.labels(method, route, str(seen.status)).inc()
        counters.SECONDS.labels(route).observe(seconds)
        counters.RECEIVED.labels(route).inc(seen.received)
        counters.SENT.labels(route).inc(seen.sent)
        if self._log:
            path = scope["path"] if self._secret is None else self._secret.sub("…", scope["path"])
            print(json.dumps(_line(scope, path, seen, route, seconds)), file=sys.stderr, flush=True)


class _Seen:
    """What became of a request; 500 if nothing did."""

    status, received, sent = 500, 0, 0


_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


def _line(scope: Scope, path: str, seen: _Seen, route: str, seconds: float) -> dict[str, Any]:
    state = scope.get("state", {})
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": state.get("request_id"),
        "method": scope["method"],
        "path": path,
        "route": route,
        "status": seen.status,
        "seconds": round(seconds, 4),
        "received": seen.received,
        "sent": seen.sent,
        "address": (scope.get("client") or [None])[0],
        "account": state.get("account"),
    }
