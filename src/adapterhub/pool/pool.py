"""A pool of adapters for one model."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapterhub.checkpoints import ADAPTER_MANIFEST
from adapterhub.checkpoints.described import adapter_folder
from adapterhub.checkpoints.mapped import Headers
from adapterhub.engine.named import check_name
from adapterhub.errors import (
    AdapterExistsError,
    AdapterHubError,
    AdapterNotFoundError,
    CheckpointNotFoundError,
    PoolError,
)
from adapterhub.pool.calls import Calls
from adapterhub.pool.entries import Entry, labels_of
from adapterhub.pool.kinds import Kinds
from adapterhub.pool.sources import HEAD, Values, find
from adapterhub.pool.statistics import PoolStatistics
from adapterhub.pool.tiers import DeviceTier, HostTier, bytes_of
from adapterhub.saving.native import LoadOptions, check_unmerged

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

logger = logging.getLogger(__name__)


class AdapterPool:
    """Adapters by the thousand for one model; made by ``model.adapter_pool()``.

    - ``register`` and ``register_folder`` look at manifests and headers of files alone; the weights stay on disk.
    - ``load`` brings values to the device, ``activate`` makes an adapter (and its head) the active one of the model,
      ``rows`` gives every row of a batch its own. Both load what is not loaded, from files that are mapped into memory.
    - What was not used for longest makes room: on the device within ``device_bytes``, in host memory within
      ``memory_bytes``. What is active, in use by ``rows``, or pinned by ``pin`` stays.

    Adapters of one configuration are in the slots of a bank, so that activating another one sets a number. Those that
    no bank takes (on the weights of experts, say) are adapters of the model, under their names, while they are loaded.

    All methods may be called from several threads. What ``activate`` makes active is so for all of them, as with
    ``set_active_adapters``; in threads that run the model at the same time use ``rows``.
    """

    def __init__(
        self,
        model: "AdapterMixin",
        device_bytes: int | None = None,
        memory_bytes: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        """An empty pool; arguments as of ``model.adapter_pool``.

        Raises:
            MergeError: if an adapter is merged into the model.
        """
        check_unmerged(model)
        self._model = model
        self._headers, self._kinds = Headers(), Kinds(model)
        self._calls = Calls(model, dtype)
        self._host, self._device = HostTier(memory_bytes), DeviceTier(device_bytes, self._calls.store)
        self._entries: dict[str, Entry] = {}
        self._active: Entry | None = None
        self._hits = self._misses = self._from_memory = 0
        self._changed = threading.Condition(threading.RLock())

    # Registering

    def register(
        self,
        name: str | None,
        path: str | os.PathLike[str],
        *,
        with_head: bool = True,
        overwrite_ok: bool = False,
        allow_other_base: bool = False,
        allow_pickle: bool = False,
    ) -> str:
        """Make the adapter in a folder known as ``name`` (None: as it calls itself); returns the name.

        Of our own format the manifest and the header of each file are read, and checked against the model. A folder
        that ``adapters`` or PEFT wrote is read as a whole, and read again when the adapter is loaded.

        Raises:
            AdapterExistsError: if the name is taken, unless ``overwrite_ok``.
            PoolError: if the adapter to be replaced is in use.
            CheckpointNotFoundError: if there is no adapter.
            CorruptCheckpointError: if a file is truncated or malformed.
            BaseModelMismatchError: if it was made for another base model, unless ``allow_other_base``.
            TensorMismatchError: if its tensors are not those of its configuration in this model.
            HeadError: if it brings a head that the model has no place for (pass ``with_head=False`` then).
        """
        options = LoadOptions(with_head=with_head, allow_other_base=allow_other_base, allow_pickle=allow_pickle)
        entry = self._found(name, Path(path), options)
        with self._changed:
            self._take([entry], overwrite_ok)
        return entry.name

    def register_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        with_head: bool = True,
        overwrite_ok: bool = False,
        allow_other_base: bool = False,
        allow_pickle: bool = False,
        ignore_unfit: bool = False,
    ) -> list[str]:
        """Make known every adapter in a folder of its own inside of ``folder``, by the names of those.

        Returns the names.

        With ``ignore_unfit`` those that cannot be registered are left out, with a warning each; without, one of them is
        an error and none is registered. Other arguments, and errors, as of ``register``.

        Raises:
            CheckpointNotFoundError: if there is no such folder, or no adapter in it.
        """
        options = LoadOptions(with_head=with_head, allow_other_base=allow_other_base, allow_pickle=allow_pickle)
        root = Path(folder)
        if not root.is_dir():
            raise CheckpointNotFoundError(f"{root} is not a folder. Give one that holds folders of adapters.")
        with os.scandir(root) as found:
            names = sorted(one.name for one in found if one.is_dir())
        entries: list[Entry] = []
        for name in names:
            if not (root / name / ADAPTER_MANIFEST).exists():
                continue
            try:
                entries.append(self._found(name, root / name, options))
            except AdapterHubError as error:
                if not ignore_unfit:
                    raise
                logger.warning("not registered: %s", error)
        if not entries:
            raise CheckpointNotFoundError(f"{root} holds no folder with an adapter ({ADAPTER_MANIFEST}) that fits")
        with self._changed:
            self._take(entries, overwrite_ok)
        return [entry.name for entry in entries]

    def _found(self, name: str | None, path: Path, options: LoadOptions) -> Entry:
        found = find(self._model, adapter_folder(path), self._headers, options)
        name = found.name if name is None else name
        check_name(name)
        with self._changed:
            kinds = self._kinds.of(found, options.allow_other_base)
        return Entry(name, found.source, kinds, labels_of(found.configs.get(HEAD)))

    def _take(self, entries: Sequence[Entry], overwrite_ok: bool) -> None:
        taken = [entry.name for entry in entries if entry.name in self._entries]
        if taken and not overwrite_ok:
            raise AdapterExistsError(f"there is an adapter {taken[0]!r} in this pool already: pass overwrite_ok=True")
        for name in taken:
            self._check_idle(self._entries[name])
        for name in taken:
            self._forget(self._entries[name])
        self._entries |= {entry.name: entry for entry in entries}

    def unregister(self, name: str) -> None:
        """Forget an adapter; its files stay.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            PoolError: if it is active or in use.
        """
        with self._changed:
            self._check_idle(self._entry(name))
            self._forget(self._entry(name))

    def _forget(self, entry: Entry) -> None:
        if entry.slots is not None:
            self._device.evict(entry)
        self._host.drop(entry.name)
        del self._entries[entry.name]

    # Looking

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def active(self) -> str | None:
        """The adapter that ``activate`` made active, or None."""
        return None if self._active is None else self._active.name

    @property
    def loaded(self) -> list[str]:
        """The adapters on the device, the one used longest ago first."""
        with self._changed:
            return [entry.name for entry in self._device]

    @property
    def statistics(self) -> PoolStatistics:
        """What the pool has done, and how much it holds."""
        with self._changed:
            return PoolStatistics(
                registered=len(self._entries),
                loaded=len(self._device),
                in_memory=len(self._host),
                hits=self._hits,
                misses=self._misses,
                from_memory=self._from_memory,
                evictions=self._device.evictions,
                device_bytes=self._device.bytes,
                memory_bytes=self._host.bytes,
                disk_bytes=sum(entry.source.size for entry in self._entries.values()),
            )

    # Using

    def load(self, *names: str) -> None:
        """Bring adapters to the device; those that are there count as used.

        Raises:
            AdapterNotFoundError: if one of them is not registered.
            CheckpointError: if its files are gone, or are not what they were; all others stay as they are.
            PoolError: if there is no room, and nothing that could make room.
        """
        with self._changed:
            self._device.expect({self._entry(name) for name in names})
        for name in names:
            self._release(self._acquire(name))

    def pin(self, name: str) -> None:
        """Bring an adapter to the device, and keep it there until ``unpin``; errors as of ``load``."""
        entry = self._acquire(name)
        entry.pinned = True
        self._release(entry)

    def unpin(self, name: str) -> None:
        """Let an adapter make room for others again.

        Raises:
            AdapterNotFoundError: if it is not registered.
        """
        with self._changed:
            self._entry(name).pinned = False

    def evict(self, name: str) -> None:
        """Take an adapter off the device and out of host memory; it stays registered.

        Raises:
            AdapterNotFoundError: if it is not registered.
            PoolError: if it is active or in use.
        """
        with self._changed:
            entry = self._entry(name)
            self._check_idle(entry)
            if entry.slots is not None:
                self._device.evict(entry)
            self._host.drop(name)

    def activate(self, name: str | None) -> None:
        """Make an adapter, and its head if it has one, the active one of the model; None: none.

        Raises:
            AdapterNotFoundError, CheckpointError, PoolError: as ``load``; what was active stays so.
        """
        entry = None if name is None else self._acquire(name)
        with self._changed:
            try:
                self._calls.activate(entry, self._device)
            except BaseException:
                if entry is not None:
                    self._release(entry)
                raise
            entry, self._active = self._active, entry
            if entry is not None:
                self._release(entry)

    @contextmanager
    def rows(self, names: "Sequence[str | None]") -> Iterator[dict[str, Any]]:
        """Adapters for the rows of a batch, one name each (None: the bare model), while the block lasts.

        What it gives are arguments for calls of the model in the block::

            with pool.rows(["de-sentiment", "fr-topic", None]) as arguments:
                output = model(input_ids=ids, attention_mask=mask, **arguments)

        Other threads and asyncio tasks are not affected. Heads of different kind answer as a ``MultiHeadOutput``.

        Raises:
            AdapterNotFoundError, CheckpointError, PoolError: as ``load``.
            CompositionError: if there is no name, or the adapters cannot act side by side.
        """
        entries: dict[str, Entry] = {}
        try:
            for name in names:
                if name is not None and name not in entries:
                    entries[name] = self._acquire(name)
            with self._calls.rows([None if name is None else entries[name] for name in names], self._device) as given:
                yield given
        finally:
            for entry in entries.values():
                self._release(entry)

    # Loading

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise AdapterNotFoundError(f"no adapter {name!r} is registered in this pool of {len(self._entries)}")
        return entry

    def _check_idle(self, entry: Entry) -> None:
        if entry.uses or entry.loading:
            raise PoolError(f"adapter {entry.name!r} is in use: activate another, or let the calls with it end first")

    def _acquire(self, name: str) -> Entry:
        """An adapter, loaded, and in use until it is released."""
        with self._changed:
            entry = self._entry(name)
            while entry.loading:
                self._changed.wait()
                entry = self._entry(name)
            entry.uses += 1
            if entry.slots is not None:
                self._hits += 1
                self._device.touch(entry)
                return entry
            self._misses += 1
            entry.loading = True
        try:
            self._load(entry)
        except BaseException:
            self._release(entry)
            raise
        finally:
            with self._changed:
                entry.loading = False
                self._changed.notify_all()
        return entry

    def _load(self, entry: Entry) -> None:
        values = self._values(entry)
        with self._changed:
            slots = self._device.reserve(entry)
            try:
                self._device.settle(entry, slots, values)
            except BaseException:
                self._device.give_back(entry, slots)
                raise

    def _values(self, entry: Entry) -> Values:
        """Out of host memory, or from disk; files are read while other threads go on."""
        with self._changed:
            values = self._host.get(entry.name)
            if values is not None:
                self._from_memory += 1
                return values
        values = entry.source.read()
        with self._changed:
            self._host.keep(entry.name, values, bytes_of(values))
        return values

    def _release(self, entry: Entry) -> None:
        with self._changed:
            entry.uses -= 1
