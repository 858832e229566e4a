"""Bodies of requests that are worked on while they come in."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request

from adapterhub.errors import HubError

_T = TypeVar("_T")
# Beside the threads of other requests, so that slow uploads keep nobody else waiting.
_THREADS = anyio.CapacityLimiter(64)


async def with_body(request: Request, work: Callable[[Iterator[bytes]], _T]) -> _T:
    """What a function makes of the pieces of a body; it runs in a thread, and no piece is read before it asks for it.

    Raises:
        HubError: if the client goes away before the end.
    """
    stream = request.stream()

    async def following() -> bytes:
        return await anext(stream, b"")

    def pieces() -> Iterator[bytes]:
        while piece := anyio.from_thread.run(following):
            yield piece

    try:
        return await anyio.to_thread.run_sync(lambda: work(pieces()), limiter=_THREADS)
    except ClientDisconnect as error:
        raise HubError("the connection ended before the body did") from error
