"""Room for adapters and heads of one kind on the device: slots of a bank; for what no bank takes, the model itself."""

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapterhub.checkpoints import load_into
from adapterhub.engine import Adapter
from adapterhub.engine.slotted import Slotted
from adapterhub.pool.kinds import Kind

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

_FIRST = 8  # slots of a bank to begin with


class Store(ABC):
    """Slots by number; ``capacity`` of them there are."""

    capacity: int
    slot_bytes: int

    @property
    def bytes(self) -> int:
        """What all of its room takes."""
        return self.capacity * self.slot_bytes

    @property
    @abstractmethod
    def free(self) -> int:
        """How many slots are free."""

    @abstractmethod
    def take(self) -> int | None:
        """A free slot, which is not free from now on; None if there is none."""

    @abstractmethod
    def grow(self, most: int | None, wanted: int = 1) -> None:
        """Make more room: for ``wanted`` slots more, or even more than that; ``most`` at most, and at least one."""

    @abstractmethod
    def put(self, slot: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the values of an adapter into a slot that was taken.

        Raises:
            TensorMismatchError: if they do not fit.
        """

    @abstractmethod
    def give_back(self, slot: int) -> None:
        """Make a slot free again."""

    @abstractmethod
    def trim(self, moved: Callable[[int, int], bool]) -> None:
        """Give back room that is free; ``moved`` is told which slot shall become which, and says whether it may."""


class BankStore(Store):
    """Slots of a bank."""

    def __init__(self, make: Callable[[int], Slotted], drop: Callable[[str], None], slot_bytes: int) -> None:
        """``make`` makes the bank with some slots of ``slot_bytes`` each, and ``drop`` drops that of a name."""
        self._make, self._drop, self.slot_bytes = make, drop, slot_bytes
        self.bank: Slotted | None = None
        self._free: list[int] = []

    @property
    def capacity(self) -> int:  # type: ignore[override]
        return 0 if self.bank is None else self.bank.capacity

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> int | None:
        return heapq.heappop(self._free) if self._free else None

    def grow(self, most: int | None, wanted: int = 1) -> None:
        before = self.capacity
        more = max(before, _FIRST, wanted)  # twice as many: what is copied in all stays a few times what there is
        after = before + (more if most is None else min(more, max(most // 4, 1)))  # others may need room, too
        if self.bank is None:
            self.bank = self._make(after)
        else:
            self.bank.grow(after)
        self._set_free((*self._free, *range(before, after)))

    def put(self, slot: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        assert self.bank is not None
        self.bank.put(slot, tensors)

    def give_back(self, slot: int) -> None:
        if self.bank is not None and slot in self.bank.filled:
            self.bank.clear(slot)
        heapq.heappush(self._free, slot)

    def trim(self, moved: Callable[[int, int], bool]) -> None:
        """Those in use come together in front, and the rest is given back."""
        if self.bank is None:
            return
        if self.free == self.capacity:
            self._drop(self.bank.name)
            self.bank = None
            self._free.clear()
            return
        for slot in sorted(self.bank.filled, reverse=True):
            if not self._free or self._free[0] > slot:
                break
            if moved(slot, self._free[0]):
                self.bank.put(heapq.heappop(self._free), self.bank.tensors(slot))
                self.give_back(slot)
        kept = max(set(range(self.capacity)).difference(self._free), default=0) + 1
        if kept < self.capacity:
            self.bank.shrink(kept)
            self._set_free(one for one in self._free if one < kept)

    def _set_free(self, slots: Iterable[int]) -> None:
        self._free = list(slots)
        heapq.heapify(self._free)


class ModelStore(Store):
    """Adapters that the model holds under their own names, of a kind that no bank takes."""

    def __init__(self, model: "AdapterMixin", kind: Kind) -> None:
        self.model, self.kind = model, kind
        self.slot_bytes = kind.size_in(None)
        self._names: dict[int, str] = {}
        self._free: list[int] = []
        self._made = 0
        self._given_back = 0

    @property
    def capacity(self) -> int:  # type: ignore[override]
        return self._made - self._given_back

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> int | None:
        return self._free.pop() if self._free else None

    def grow(self, most: int | None, wanted: int = 1) -> None:
        self._free.append(self._made)
        self._made += 1

    def put(self, slot: int, name: str, tensors: Mapping[str, Tensor]) -> None:
        with torch.random.fork_rng(devices=[]):
            adapter: Adapter = self.model.engine.build(name, self.kind.config)
        load_into(adapter, tensors, f"adapter {name!r}")
        self.model.engine.hold(adapter.eval().requires_grad_(False))
        self._names[slot] = name

    def give_back(self, slot: int) -> None:
        name = self._names.pop(slot, None)
        if name is not None:
            self.model.engine.delete(name)
        self._free.append(slot)

    def trim(self, moved: Callable[[int, int], bool]) -> None:
        self._given_back += len(self._free)
        self._free.clear()
