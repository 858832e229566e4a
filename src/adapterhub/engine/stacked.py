"""Parts of several adapters that run as one: which rows each is for, and where their parameters come from."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapterhub.engine.program import Call, Read, Step
from adapterhub.methods.stacked import Holder, Stacked, Unit

Chosen = (
    int | Tensor | None
)  # one of all; that of each of several equal shares of the rows; as many shares as there are


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedStep(Step):
    """Parts that run as one, where ``like`` is the step of one of them; ``part`` and ``fixed`` are its own."""

    row_by_row: ClassVar[bool] = False

    like: Step
    stacked: Stacked
    _kept: list[tuple[Any, Sequence[Tensor]]] = field(default_factory=list)  # one at most

    def kept(self, state: Any, make: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """What was made last, if that was in the same ``state``; else what ``make`` gives now."""
        last = self._kept[:]  # another thread may put another one there
        if not last or last[0][0] != state:
            last = [(state, make())]
            self._kept[:] = last
        return last[0][1]

    @abstractmethod
    def chosen(self, call: Call) -> Chosen:
        """Which of them act on the rows of a call."""

    @abstractmethod
    def tensors(self, one: int | None) -> Sequence[Tensor]:
        """The parameters of one of them, or those of all, stacked: as ``Stacked.run`` takes them."""

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        found: Tensor = self.run("forward", self.chosen(call), self.like.reading(state, read), self.fixed)
        return found

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        if not hasattr(self.part, "update"):
            return self(state, read, call) - state
        found: Tensor = self.run("update", self.chosen(call), self.like.reading(state, read), self.fixed)
        return found

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        found: Tensor = self.run("inverse", self.chosen(call), (state,))
        return found

    def query(self, state: Tensor, read: Read, call: Call) -> Tensor:
        if not hasattr(self.part, "reads"):
            return state
        found: Tensor = self.run("reads", self.chosen(call), self.like.reading(state, read), self.fixed)
        return found

    def acting(self, call: Call) -> Any:
        return Acting(self, self.chosen(call))

    def run(self, method: str, chosen: Chosen, args: Sequence[Tensor], fixed: Sequence[Any] = ()) -> Any:
        """What ``method`` of the parts gives for all rows; without ``args``, for each share of them."""
        training = self.part.training
        if isinstance(chosen, int):
            return self.stacked.run(self.tensors(chosen), method, args, fixed, stacked=False, training=training)
        tensors = self.tensors(None)
        shares = (tensors[0] if chosen is None else chosen).shape[0]
        rows = max([1, *(arg.shape[0] for arg in args)])
        rows = shares if rows == 1 else rows
        shared = tuple(
            (arg.expand(rows, *arg.shape[1:]) if arg.shape[0] == 1 else arg).unflatten(0, (shares, -1)) for arg in args
        )
        found = self.stacked.run(tensors, method, shared, fixed, training=training, which=chosen)
        if not args:
            return found
        return found.flatten(0, 1) if isinstance(found, Tensor) else tuple(one.flatten(0, 1) for one in found)


@dataclass(frozen=True)
class Acting:
    """What stands for a part, where that is called by what is no step."""

    step: StackedStep
    chosen: Chosen

    def __call__(self, *args: Tensor) -> Any:
        return self.step.run("forward", self.chosen, args, self.step.fixed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step.part, name)


@dataclass(frozen=True, eq=False, kw_only=True)
class MembersStep(StackedStep):
    """Parts of adapters that the model holds. Their parameters are stacked in every call that gradients are wanted of,
    and kept stacked between others until one of them changes."""

    holders: tuple[tuple[Holder, ...], ...]  # for each tensor of a part, where each of the parts keeps its own

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "MembersStep":
        """That of steps whose parts are alike."""
        first = steps[0]
        units = [Unit(step.part, step.fixed) for step in steps]
        columns = zip(*(unit.holders().values() for unit in units), strict=True)
        names = ", ".join(dict.fromkeys(step.adapter for step in steps))
        return cls(names, first.part, first.fixed, like=first, stacked=Stacked(units[0]), holders=tuple(columns))

    def chosen(self, call: Call) -> Chosen:
        return call.members

    def tensors(self, one: int | None) -> Sequence[Tensor]:
        columns = [[kept[name] for kept, name in column] for column in self.holders]
        wanted = torch.is_grad_enabled() and any(one.requires_grad for column in columns for one in column)
        if wanted or torch.compiler.is_compiling():  # a graph that is compiled reads the parameters anew each time
            return [torch.stack(column) for column in columns]
        state: list[Any] = [torch.is_inference_mode_enabled()]
        state += [(one.data_ptr(), 0 if one.is_inference() else one._version) for column in columns for one in column]
        return self.kept(state, lambda: [torch.stack(column) for column in columns])
