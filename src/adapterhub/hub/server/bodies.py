"""Bodies of requests: written to a file as they arrive, or worked on while they do. A slow client holds up no other."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from adapterhub.errors import HubError
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.staging import Staged, incoming

_PIECE = 1 << 20
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


@asynccontextmanager
async def to_file(request: Request, hub: Hub, limit: int, name: str) -> AsyncIterator[Staged]:
    """The body of a request as a file, which is gone when the block ends unless the store took it.

    Raises:
        TooLargeError: for more than ``limit`` bytes; ``name`` says of what.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLargeError(f"{name} is larger than the {limit:,} bytes that it may have here")
    with incoming(hub.uploads, limit, name) as file:
        waiting = bytearray()
        try:
            async for piece in request.stream():
                waiting += piece
                if len(waiting) >= _PIECE:
                    await run_in_threadpool(file.write, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect as error:
            raise HTTPException(400, f"the connection ended in the middle of {name}") from error
        await run_in_threadpool(file.write, bytes(waiting))
        yield await run_in_threadpool(file.finish)
