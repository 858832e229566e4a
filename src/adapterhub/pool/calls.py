"""How the model is told which adapters of a pool act: by the active slots of banks, or for each row of a call."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from adapterhub.composition import Composition, Rows, Stack
from adapterhub.engine import AdapterSetup
from adapterhub.engine.bank import NO_SLOT, Bank
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.heads import BaseInfo, build_head
from adapterhub.heads.bank import SLOTS, HeadBank
from adapterhub.pool.entries import Entry
from adapterhub.pool.kinds import Kind
from adapterhub.pool.sources import ADAPTER, HEAD
from adapterhub.pool.stores import BankStore, ModelStore, Store
from adapterhub.pool.tiers import DeviceTier

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin


class Calls:
    """Makes the banks of a pool in its model, and points the model at slots of them."""

    def __init__(self, model: "AdapterMixin", dtype: torch.dtype | None) -> None:
        self.model, self.dtype = model, dtype
        self._plan: Any = None  # that of the bank which is active
        self._bank: Bank | None = None

    # Room

    def store(self, kind: Kind) -> Store:
        """Room for adapters or heads of a kind."""
        if kind.part == HEAD:
            return BankStore(partial(self._head_bank, kind), self._drop_head_bank, kind.size_in(None))
        if not self._fits_bank(kind):
            return ModelStore(self.model, kind)
        return BankStore(partial(self._adapter_bank, kind), self.model.engine.delete_bank, kind.size_in(self.dtype))

    def _fits_bank(self, kind: Kind) -> bool:
        engine = self.model.engine
        try:
            bank = self._adapter_bank(kind, 1)
        except ConfigError:
            return False
        try:
            engine.release(engine.acquire(Stack(bank.name)))
        except ConfigError:
            return False
        finally:
            engine.delete_bank(bank.name)
        return True

    def _adapter_bank(self, kind: Kind, capacity: int) -> Bank:
        engine = self.model.engine
        name = _free_name("pool", (*engine.banks, *engine.adapters))
        return engine.add_bank(name, kind.config, capacity, self.dtype)

    def _head_bank(self, kind: Kind, capacity: int) -> HeadBank:
        model: Any = self.model
        with torch.random.fork_rng(devices=[]):
            like = build_head(kind.config, BaseInfo.of(model))
        made: HeadBank = model.add_head_bank(_free_name("pool", (*model.head_banks, *model.heads)), like, capacity)
        return made

    def _drop_head_bank(self, name: str) -> None:
        model: Any = self.model
        del model.head_banks[name]

    # The active adapter

    def activate(self, entry: Entry | None, device: DeviceTier) -> None:
        """Make a loaded adapter the active one of the model, or none."""
        bank = None if entry is None else device.bank(entry, ADAPTER)
        if entry is None or not isinstance(bank, Bank):
            self.model.engine.activate(None if entry is None else Stack(entry.name))
            self._plan, self._bank = None, None
        else:
            assert entry.slots is not None
            bank.active = entry.slots[ADAPTER]
            if self._bank is not bank or self.model.engine.active is not self._plan:
                self.model.engine.activate(Stack(bank.name))
                self._plan, self._bank = self.model.engine.active, bank
        self._activate_head(entry, device)

    def _activate_head(self, entry: Entry | None, device: DeviceTier) -> None:
        model: Any = self.model
        bank = None if entry is None else device.bank(entry, HEAD)
        if isinstance(bank, HeadBank):
            assert entry is not None and entry.slots is not None
            bank.activate(entry.slots[HEAD], entry.labels)
            model.active_head = bank.name
        elif getattr(model, "active_head", None) in getattr(model, "head_banks", ()):
            model.active_head = None  # that of the adapter before

    # Rows of a call

    @contextmanager
    def rows(self, entries: Sequence[Entry | None], device: DeviceTier) -> Iterator[dict[str, Any]]:
        """The arguments for calls in which each row has an adapter of its own, under the setup that they need."""
        if not entries:
            raise CompositionError("there is no row: give a name (or None) for each row of the batch")
        setup = self._setup(entries, device)
        plan = self.model.engine.plan()
        as_it_is = plan is not None and plan.setup == setup and not plan.skip_layers
        with nullcontext() if as_it_is else AdapterSetup(setup):
            yield self._adapter_arguments(entries, device) | _head_arguments(entries, device)

    def _setup(self, entries: Sequence[Entry | None], device: DeviceTier) -> Composition | None:
        names = [None if entry is None else _acting(entry, device) for entry in entries]
        used = set(names) - {None}
        if not used:
            return None
        only = next(iter(used))
        return Stack(only) if len(used) == 1 and only in self.model.engine.banks else Rows(*names)

    def _adapter_arguments(self, entries: Sequence[Entry | None], device: DeviceTier) -> dict[str, Any]:
        slots: dict[str, list[int]] = {}
        for row, entry in enumerate(entries):
            bank = None if entry is None else device.bank(entry, ADAPTER)
            if bank is not None and entry is not None and entry.slots is not None:
                slots.setdefault(bank.name, [NO_SLOT] * len(entries))[row] = entry.slots[ADAPTER]
        return {"adapter_slots": {name: torch.tensor(own) for name, own in slots.items()}} if slots else {}


def _head_arguments(entries: Sequence[Entry | None], device: DeviceTier) -> dict[str, Any]:
    banks = [None if entry is None else device.bank(entry, HEAD) for entry in entries]
    names = [None if bank is None else bank.name for bank in banks]
    if not any(names):
        return {}
    slots = [(entry.slots or {}).get(HEAD, NO_SLOT) if entry is not None else NO_SLOT for entry in entries]
    return {"head": names[0] if len(set(names)) == 1 else Rows(*names), SLOTS: torch.tensor(slots)}


def _acting(entry: Entry, device: DeviceTier) -> str:
    """What stands in a setup for an adapter: its bank, or its own name."""
    bank = device.bank(entry, ADAPTER)
    return entry.name if bank is None else bank.name


def _free_name(stem: str, taken: Iterable[str]) -> str:
    return next(name for number in count() if (name := f"{stem}-{number}") not in taken)
