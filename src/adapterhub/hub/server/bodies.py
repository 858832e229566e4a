"""The body of a request, written to a file as it arrives: however slow a client is, it holds no thread."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.staging import Staged, incoming

_PIECE = 1 << 20


@asynccontextmanager
async def arriving(request: Request, hub: Hub, limit: int, name: str) -> AsyncIterator[Staged]:
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
