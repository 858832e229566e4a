"""Banks: many adapters of one configuration in stacked tensors, of which each row of a batch uses one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub.engine.adapter import Adapter
from adapterhub.engine.experts import ExpertStep
from adapterhub.engine.program import Call, Program, Read, Slots, Step
from adapterhub.engine.side import SideStep
from adapterhub.engine.slotted import Slotted, tensors_of
from adapterhub.engine.stacked import Chosen, StackedStep
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.methods.stacked import Stacked, Unit

NO_SLOT = -1


class Bank(Slotted):
    """Room for ``capacity`` adapters of one configuration; made by ``engine.add_bank(name, config, capacity)``.

    A bank stands in a composition like an adapter of its name (``Stack("lang", "bank")``). Which of its adapters a row
    uses is no part of the composition, so that a plan is compiled once, whatever is used later:

    - ``bank.put(slot, tensors)`` writes an adapter's tensors (by the names of ``adapter.state_dict()``) into a slot,
      ``bank.tensors(slot)`` gives them back, ``bank.clear(slot)`` frees it; ``bank.filled`` are the slots in use.
    - ``bank.active = slot`` is what calls use that say nothing else; None: the bank does nothing.
    - ``model(..., adapter_slots=slots)`` and ``model.generate(..., adapter_slots=slots)`` say it for one call: a number
      for the whole batch, a list or a tensor ``[batch]`` with that of each row, -1 for none; with several banks in the
      setup, a dictionary of these by their names. Under ``torch.compile`` give a tensor: its values are not looked at.

    Values are kept in ``dtype``, on the devices of the base modules; a bank is no part of the model's state dict.
    """

    def __init__(self, name: str, adapter: Adapter, capacity: int, dtype: torch.dtype | None = None) -> None:
        """A bank for adapters like ``adapter``, whose values do not matter.

        Raises:
            ConfigError: if there is to be no slot, or the configuration acts on experts, or is fitted to a vocabulary.
        """
        super().__init__(name, adapter, capacity, dtype)
        self.config, self.vocabulary = adapter.config, adapter.vocabulary
        self._like = adapter.eval().requires_grad_(False)
        self._active: int | None = None
        # The same for what is compiled, so that nothing is compiled again when another becomes active.
        self._acts = False
        self._number = torch.zeros(1, dtype=torch.long, device=self.device)

    @property
    def active(self) -> int | None:
        """The slot that calls use which name none.

        Raises:
            CompositionError: on setting it to one in which there is no adapter.
        """
        return self._active

    @active.setter
    def active(self, slot: int | None) -> None:
        if slot is not None:
            self._check_filled((slot,))
            self._number.fill_(slot)
        self._active, self._acts = slot, slot is not None

    def clear(self, slot: int) -> None:
        """Take the adapter out of a slot; if it was active, none is.

        Raises:
            CompositionError: if there is none.
        """
        super().clear(slot)
        if self._active == slot:
            self.active = None

    def parts(self, site: str) -> tuple[nn.Module, ...]:
        """The modules that act at a site, of an adapter without values."""
        return self._like.parts(site)

    def step(self, like: Step) -> "BankStep":
        """What runs the adapters of this bank, out of the step of one."""
        if isinstance(like, ExpertStep):
            raise ConfigError(f"bank {self.name!r}: an adapter on the weights of experts cannot be in a bank")
        if isinstance(like, SideStep):
            raise ConfigError(f"bank {self.name!r}: a ladder, which has a state of its own, cannot be in a bank")
        unit = Unit(like.part, like.fixed)
        known = {id(tensor): path for path, tensor in tensors_of(self._like)}
        paths = tuple(known[id(kept[name])] for kept, name in unit.holders().values())
        return BankStep(like.adapter, like.part, like.fixed, like=like, stacked=Stacked(unit), bank=self, paths=paths)

    def choice(self, given: Any, rows: int) -> int | Slots | None:
        """What a call with so many rows uses; ``given`` as for ``adapter_slots``, None for what is active.

        Raises:
            CompositionError: for another number of rows, or a slot in which there is no adapter.
        """
        compiling = torch.compiler.is_compiling()
        if given is None and compiling:
            return Slots(self._number) if self._acts else None
        if given is None:
            return self._active
        if isinstance(given, int):
            self._check_filled({given} - {NO_SLOT})
            return None if given == NO_SLOT else given
        if len(given) != rows:
            raise CompositionError(f"adapter_slots are for {len(given)} rows, and the batch has {rows}")
        if compiling or (isinstance(given, Tensor) and given.device.type != "cpu"):
            numbers = torch.as_tensor(given).to(self.device)
            return Slots(numbers.clamp(min=0), numbers >= 0)
        return self._choice([int(one) for one in given])

    def _choice(self, numbers: Sequence[int]) -> int | Slots | None:
        used = set(numbers) - {NO_SLOT}
        self._check_filled(used)
        if len(used) < 2 and NO_SLOT not in numbers:
            return next(iter(used), None)
        found = torch.tensor(numbers, device=self.device)
        return Slots(found.clamp(min=0), found >= 0 if NO_SLOT in numbers else None) if used else None


@dataclass(frozen=True, eq=False, kw_only=True)
class BankStep(StackedStep):
    """The adapters of a bank at one site; ``paths`` are those of the tensors in it."""

    bank: Bank
    paths: tuple[str, ...]
    idle: Program | None = None  # what rows get that use no slot; None: their state as it is

    def chosen(self, call: Call) -> Chosen:
        found = self._slots(call)
        if found is None or isinstance(found, int):
            return found
        return found.numbers.repeat(call.channels) if call.channels > 1 else found.numbers

    def tensors(self, one: int | None) -> Sequence[Tensor]:
        whole = [self.bank.stacked(path) for path in self.paths]
        if one is None:
            return whole
        state = one, torch.is_inference_mode_enabled(), whole[0].data_ptr()  # the views of the last slot are kept
        return self.kept(state, lambda: [stack[one] for stack in whole])

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        found = self._slots(call)
        if found is None:
            return self._idle(state, read, call)
        new = super().__call__(state, read, call)
        if isinstance(found, int) or found.used is None:
            return new
        return self._where_used(new, self._idle(state, read, call), call)

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        if self.idle is not None:
            return self(state, read, call) - state
        if self._slots(call) is None:
            return torch.zeros_like(state)
        change = super().change(state, read, call)
        return self._where_used(change, torch.zeros_like(change), call)

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return state if self._slots(call) is None else self._where_used(super().inverse(state, call), state, call)

    def query(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return state if self._slots(call) is None else super().query(state, read, call)

    def acting(self, call: Call) -> Any:
        return self.part if self._slots(call) is None else super().acting(call)

    def used(self, rows: int, call: Call) -> Tensor | None:
        found = self._slots(call)
        if found is None:
            return torch.zeros(rows, dtype=torch.bool)
        if isinstance(found, int) or found.used is None:
            return None
        used = found.used.repeat(call.channels)
        return used.repeat_interleave(rows // len(used))

    def _idle(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return state if self.idle is None else self.idle(state, read, call)

    def _slots(self, call: Call) -> int | Slots | None:
        return (call.slots or {}).get(self.bank.name)

    def _where_used(self, new: Tensor, old: Tensor, call: Call) -> Tensor:
        used = self.used(new.shape[0], call)
        return new if used is None else torch.where(used.to(new.device).view(-1, *(1,) * (new.dim() - 1)), new, old)
