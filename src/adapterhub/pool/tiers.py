"""The tiers above the disk: the device, and host memory; what was used longest ago goes first."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from adapterhub.engine.slotted import Slotted
from adapterhub.errors import PoolError
from adapterhub.pool.entries import Entry
from adapterhub.pool.kinds import Kind
from adapterhub.pool.sources import Values
from adapterhub.pool.stores import BankStore, Store

_WORTH = 0.12  # the share of a bank that has to be free before it is copied to give that back


class HostTier:
    """Copies of values in host memory, as many bytes of them as ``limit``; page-locked where there is a GPU."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[str, Values] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> Values | None:
        """The values of an adapter, if they are here."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def keep(self, name: str, values: Values, size: int) -> None:
        """Copy values of ``size`` bytes, unless they are more than all the room there is."""
        if size > self.limit or name in self._kept:
            return
        while self.bytes + size > self.limit:
            self.drop(next(iter(self._kept)))
        self._kept[name] = {part: _copies(tensors) for part, tensors in values.items()}
        self.bytes += size

    def drop(self, name: str) -> None:
        """Forget the values of an adapter."""
        values = self._kept.pop(name, None)
        if values is not None:
            self.bytes -= bytes_of(values)


def bytes_of(values: Values) -> int:
    """What values take in memory."""
    return sum(tensor.nbytes for tensors in values.values() for tensor in tensors.values())


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: _copy(tensor) for name, tensor in tensors.items()}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.pin_memory() if torch.cuda.is_available() else tensor.clone()


class DeviceTier:
    """Slots for the parts of adapters; all of their room together takes ``limit`` bytes at most, None for no limit.

    What is told of here is done by one thread at a time; the pool sees to it.
    """

    def __init__(self, limit: int | None, make: Callable[[Kind], Store]) -> None:
        self.limit, self.evictions = limit, 0
        self._make = make
        self.stores: dict[Kind, Store] = {}
        self._owners: OrderedDict[Entry, None] = OrderedDict()  # those that are loaded, the least recently used first

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._owners)

    @property
    def bytes(self) -> int:
        """What all room takes."""
        return sum(store.bytes for store in self.stores.values())

    def bank(self, entry: Entry, part: str) -> Slotted | None:
        """The bank that a part of a loaded adapter is in; None where it is in none, or there is no such part."""
        store = self.stores.get(entry.kinds[part]) if part in entry.kinds else None
        return store.bank if isinstance(store, BankStore) else None

    def touch(self, entry: Entry) -> None:
        """Note that a loaded adapter is used."""
        self._owners.move_to_end(entry)

    def expect(self, entries: Iterable[Entry]) -> None:
        """Make room for many that are to be loaded at once, where there is no limit."""
        missing = Counter(kind for entry in entries if entry.slots is None for kind in entry.kinds.values())
        for kind, count in missing.items() if self.limit is None else ():
            store = self._store(kind)
            if store.free < count:
                store.grow(None, count - store.free)

    def _store(self, kind: Kind) -> Store:
        if kind not in self.stores:
            self.stores[kind] = self._make(kind)
        return self.stores[kind]

    def reserve(self, entry: Entry) -> dict[str, int]:
        """A slot for every part of an adapter.

        Raises:
            PoolError: if there is no room, and nothing that could make room; nothing is reserved then.
        """
        slots: dict[str, int] = {}
        try:
            for part, kind in entry.kinds.items():
                slots[part] = self._slot(entry, kind)
        except BaseException:
            self.give_back(entry, slots)
            raise
        return slots

    def _slot(self, entry: Entry, kind: Kind) -> int:
        store = self._store(kind)
        while (slot := store.take()) is None:
            most = None if self.limit is None else (self.limit - self.bytes) // store.slot_bytes
            if most is None or most > 0:
                store.grow(most)
                continue
            if self._reclaim(store, _WORTH):
                continue
            victim = next((one for one in self._owners if one.is_idle), None)
            if victim is not None:
                self.evict(victim)
                self.evictions += 1
            elif not self._reclaim(store, 0):
                raise PoolError(
                    f"there is no room for adapter {entry.name!r}: it takes {store.slot_bytes} bytes, and all that is "
                    f"loaded ({', '.join(one.name for one in list(self._owners)[:5]) or 'nothing'}) is in use or "
                    f"pinned. Give the pool more than device_bytes={self.limit}, or use fewer adapters at once"
                )
        return slot

    def settle(self, entry: Entry, slots: dict[str, int], values: Values) -> None:
        """Write the values of an adapter into the slots that are reserved for it."""
        for part, slot in slots.items():
            self.stores[entry.kinds[part]].put(slot, entry.name, values[part])
        entry.slots = slots
        self._owners[entry] = None

    def evict(self, entry: Entry) -> None:
        """Make the slots of an adapter free."""
        del self._owners[entry]
        slots, entry.slots = entry.slots or {}, None
        self.give_back(entry, slots)

    def give_back(self, entry: Entry, slots: Mapping[str, int]) -> None:
        """Make slots free."""
        for part, slot in slots.items():
            self.stores[entry.kinds[part]].give_back(slot)

    def _reclaim(self, needing: Store, share: float) -> bool:
        """Give back the free room of other stores, where it is more than a share of theirs; whether there was any."""
        before = self.bytes
        for store in self.stores.values():
            if store is not needing and store.free > share * store.capacity:
                self._trim(store)
        return self.bytes < before

    def _trim(self, store: Store) -> None:
        def moved(slot: int, to: int) -> bool:
            for entry in self._owners:
                for part, own in (entry.slots or {}).items():
                    if own == slot and self.stores[entry.kinds[part]] is store:
                        if entry.is_idle and entry.slots is not None:
                            entry.slots[part] = to
                            return True
                        return False
            return False

        store.trim(moved)
