"""The adapters of a server: loaded when they are first asked for, kept as long as there is room."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from adapterhub.errors import AdapterHubError
from adapterhub.serving import counters
from adapterhub.serving.errors import BrokenAdapterError, UnknownAdapterError
from adapterhub.serving.model import Held, ServedModel
from adapterhub.serving.sources import Found, Source

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
State = Literal["available", "loading", "loaded", "failed"]
# Downloads under way at once; each has a thread, so that a slow one holds up no other.
_DOWNLOADS = 16
# For so long an adapter that could not be loaded is not tried again, unless somebody asks to load it.
_FAILED_SECONDS = 5.0
_MOST_FAILED = 1000


@dataclass(eq=False)
class Loaded:
    """One version of an adapter in the model; a newer one stands beside it until nobody uses this one.

    Attributes:
        name, found: what it is.
        held: what it is in the model.
        loaded: when (Unix time).
        uses: requests under way that use it.
        used: when it was used last, by the clock of the event loop.
        requests: that used it, ever.
        retired: whether no request gets it any more.
    """

    name: str
    found: Found
    held: Held
    loaded: float = field(default_factory=time.time)
    uses: int = 0
    used: float = 0.0
    requests: int = 0
    retired: bool = False


@dataclass(frozen=True)
class Listed:
    """What there is to say of an adapter; ``loaded`` is None unless it is in the model, ``error`` why it cannot be."""

    name: str
    state: State
    pinned: bool
    loaded: Loaded | None = None
    error: str | None = None


class Adapters:
    """Which adapters are in the model.

    Args:
        model: what they are put into.
        source: where they come from.
        max_bytes: of those that are kept; what was not used for the longest goes first, but no pinned one.
    """

    def __init__(self, model: ServedModel, source: Source, max_bytes: int) -> None:
        self._model, self._source, self._max_bytes = model, source, max_bytes
        self._current: dict[str, Loaded] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._failed: dict[str, tuple[float, AdapterHubError]] = {}
        self._pinned: set[str] = set()
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, "downloads")
        self._loads = ThreadPoolExecutor(1, "loads")

    @asynccontextmanager
    async def lease(self, names: Iterable[str]) -> AsyncIterator[Mapping[str, Loaded]]:
        """The adapters of these names, which stay in the model until the end of the block.

        Raises:
            UnknownAdapterError: if there is none of a name.
            AdapterHubError: if one of them cannot be fetched or loaded.
        """
        leased: dict[str, Loaded] = {}
        try:
            for name in dict.fromkeys(names):
                leased[name] = await self._take(name)
            yield leased
        finally:
            for one in leased.values():
                self._give_back(one)

    async def load(self, name: str) -> Loaded:
        """The newest version of an adapter, in the place of the one that is in the model, if that is another.

        Requests under way are answered by the version that they began with.

        Raises:
            AdapterHubError: as ``lease``; what is in the model stays.
        """
        self._failed.pop(name, None)
        return await self._load(name)

    async def unload(self, name: str) -> None:
        """Take an adapter out of the model; the next request for it loads it again.

        Raises:
            UnknownAdapterError: if it is not in the model.
        """
        if name not in self._current:
            raise UnknownAdapterError(f"the adapter {name!r} is not in the model")
        self._pinned.discard(name)
        self._retire(self._current.pop(name))
        self._tell()

    async def pin(self, name: str, pinned: bool) -> None:
        """Keep an adapter in the model whatever else there is, or no longer; one that is not there is loaded."""
        if pinned:
            async with self.lease([name]):
                self._pinned.add(name)
        else:
            self._pinned.discard(name)
            self._make_room()

    async def refresh(self) -> None:
        """Load the newer versions of all that are in the model; where that fails, the one that is there stays."""
        for name in list(self._current):
            try:
                await self._load(name)
            except AdapterHubError as error:
                logger.warning("the adapter %s stays as it is: %s", name, error)

    async def listed(self) -> list[Listed]:
        """All adapters that are known here, by name."""
        there = await self._in_thread(self._downloads, self._source.names)
        failed = [name for name, (_, error) in self._failed.items() if not isinstance(error, LookupError)]
        names = {*there, *self._current, *self._loading, *failed}
        return [self.one(name) for name in sorted(names)]

    async def known(self, name: str) -> Listed:
        """What there is to say of one that is known here.

        Raises:
            UnknownAdapterError: if it is not.
        """
        if name not in {one.name for one in await self.listed()}:
            raise UnknownAdapterError(f"the adapter {name!r} is not in the model, nor in the folder of this server")
        return self.one(name)

    def one(self, name: str) -> Listed:
        """What there is to say of one."""
        pinned, failed = name in self._pinned, self._failed.get(name)
        if (loaded := self._current.get(name)) is not None:
            return Listed(name, "loaded", pinned, loaded)
        if name in self._loading:
            return Listed(name, "loading", pinned)
        if failed is not None:
            return Listed(name, "failed", pinned, error=str(failed[1]))
        return Listed(name, "available", pinned)

    async def stop(self) -> None:
        """Wait for what is being loaded, and end."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        self._downloads.shutdown(wait=False, cancel_futures=True)
        self._loads.shutdown(wait=False, cancel_futures=True)

    async def _take(self, name: str) -> Loaded:
        loaded = self._current.get(name)
        if loaded is None:
            until, error = self._failed.get(name, (0.0, None))
            if error is not None and until > time.monotonic():
                raise error
            loaded = await self._load(name)
        while loaded.retired:  # to make room, before it came to this line
            loaded = await self._load(name)
        loaded.uses, loaded.requests = loaded.uses + 1, loaded.requests + 1
        loaded.used = asyncio.get_running_loop().time()
        return loaded

    def _give_back(self, loaded: Loaded) -> None:
        loaded.uses -= 1
        self._drop_unused(loaded)

    async def _load(self, name: str) -> Loaded:
        """Load it once, however many ask meanwhile; who stops waiting stops none of the others."""
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._newest(name), name=f"load {name}")
            task.add_done_callback(lambda done: self._finished(name, done))
        return await asyncio.shield(task)

    def _finished(self, name: str, done: asyncio.Task[Loaded]) -> None:
        del self._loading[name]
        if not done.cancelled():
            done.exception()  # asked for, or it would be told where nobody waits any more

    async def _newest(self, name: str) -> Loaded:
        begun = time.monotonic()
        before = self._current.get(name)
        try:
            found = await self._in_thread(self._downloads, lambda: self._found(name))
            if before is not None and before.found.version == found.version and not before.retired:
                return before
            held = await self._in_thread(self._loads, lambda: self._held(name, found))
        except AdapterHubError as error:
            counters.LOADS.labels("failed").inc()
            if before is None:
                self._remember_failure(name, error)
            raise
        loaded = Loaded(name, found, held, used=asyncio.get_running_loop().time())
        self._failed.pop(name, None)
        if (old := self._current.pop(name, None)) is not None:
            self._retire(old)
        self._current[name] = loaded
        counters.LOADS.labels("loaded").inc()
        counters.LOAD_SECONDS.observe(time.monotonic() - begun)
        self._make_room(loaded)
        return loaded

    def _remember_failure(self, name: str, error: AdapterHubError) -> None:
        self._failed.pop(name, None)
        self._failed[name] = time.monotonic() + _FAILED_SECONDS, error
        if len(self._failed) > _MOST_FAILED:
            del self._failed[next(iter(self._failed))]

    def _found(self, name: str) -> Found:
        try:
            return self._source.find(name)
        except OSError as error:
            if isinstance(error, AdapterHubError):
                raise
            raise BrokenAdapterError(f"the files of {name!r} cannot be read: {error.strerror}") from error

    def _held(self, name: str, found: Found) -> Held:
        try:
            return self._model.load(found.folder)
        except AdapterHubError as error:
            said = str(error).replace(str(found.folder), repr(name))  # where it lies here is nobody's business
            raise type(error)(said) from error
        except Exception as error:
            logger.exception("the adapter %s cannot be loaded", name)
            raise BrokenAdapterError(
                f"the adapter {name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    def _make_room(self, newest: Loaded | None = None) -> None:
        """Retire what was not used for the longest, until the rest is no larger than it may be."""
        size = sum(one.held.nbytes for one in self._current.values())
        idle = (one for one in self._current.values() if not one.uses and one is not newest)
        for one in sorted(idle, key=lambda one: one.used):
            if size <= self._max_bytes:
                break
            if one.name not in self._pinned:
                size -= one.held.nbytes
                del self._current[one.name]
                counters.EVICTIONS.inc()
                self._retire(one)
        self._tell()

    def _tell(self) -> None:
        counters.LOADED.set(len(self._current))
        counters.LOADED_BYTES.set(sum(one.held.nbytes for one in self._current.values()))

    def _retire(self, loaded: Loaded) -> None:
        loaded.retired = True
        self._drop_unused(loaded)

    def _drop_unused(self, loaded: Loaded) -> None:
        """Take what nobody uses any more out of the model, after what is being loaded."""
        if loaded.retired and not loaded.uses:
            self._loads.submit(self._unload, loaded)

    def _unload(self, loaded: Loaded) -> None:
        try:
            self._model.unload(loaded.held.slot)
        except Exception:
            logger.exception("the adapter %s stays in the model", loaded.name)

    @staticmethod
    async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
