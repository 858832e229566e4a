"""All that a server runs."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from adapterhub.hub.ids import is_place
from adapterhub.inference.tasks import longest
from adapterhub.serving.adapters import Adapters
from adapterhub.serving.batching import Batcher, Limits
from adapterhub.serving.engine import ServingEngine
from adapterhub.serving.errors import StoppingError
from adapterhub.serving.limits import Tokens
from adapterhub.serving.model import ServedModel
from adapterhub.serving.settings import Settings
from adapterhub.serving.sources import FolderSource, HubSource, Source, Sources
from adapterhub.training.backbones import public_name

_T = TypeVar("_T")
_MOST_TOKENS = 512


class Server:
    """A model, its adapters, and what answers with them.

    Args:
        settings: how it is run.
        model: the one that they name, opened.

    Attributes:
        name: what the base model is called to those outside.
        fingerprint: what tells it from other models.
    """

    def __init__(self, settings: Settings, model: ServedModel) -> None:
        self.settings, self.model, self.tokens = settings, model, Tokens(settings)
        self.fingerprint = model.fingerprint
        sources: list[Source] = []
        if settings.adapters is not None:
            sources.append(FolderSource(settings.adapters.expanduser()))
        if settings.hub:
            sources.append(HubSource(settings.hub, self.fingerprint))
        self.adapters = Adapters(model, Sources(sources), settings.adapter_bytes)
        limits = Limits(settings.batch_tokens, settings.batch_wait, settings.queue_rows)
        self._batcher = Batcher(model.run, limits)
        self.name = Path(settings.model).name if is_place(settings.model) else public_name(settings.model)
        self.max_tokens = settings.max_tokens or min(longest(model.model, model.tokenizer), _MOST_TOKENS)
        self.engine = ServingEngine(
            model, self.adapters, self._batcher, self.max_tokens, settings.max_inputs, settings.max_characters
        )
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: Settings) -> "Server":
        """A server of the model that settings name.

        Raises:
            BackboneError: if there is no such model.
            ServingError: if there is no such folder of adapters.
        """
        return cls(settings, ServedModel.open(settings.model, settings.device))

    async def start(self) -> None:
        """Answer from now on; pinned adapters are there first.

        Raises:
            AdapterHubError: if one of them cannot be loaded.
        """
        self._batcher.start()
        for name in self.settings.pinned:
            await self.adapters.pin(name, True)
        if self.settings.refresh_seconds:
            self._refreshing = asyncio.create_task(self._refresh(), name="refresh")

    async def stop(self) -> None:
        """Answer what is under way, and end."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._batcher.stop()
        await self.adapters.stop()
        self.engine.stop()

    def check_ready(self) -> None:
        """Pass if requests are answered.

        Raises:
            StoppingError: if not.
        """
        self._batcher.check_running()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self.settings.refresh_seconds)
            await self.adapters.refresh()


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine gives, which is cancelled if whoever asked goes away meanwhile.

    Raises:
        StoppingError: if they did; nobody reads it.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppingError("whoever asked went away")
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
