"""What runs at one site: a composition with the parts of adapters in the place of their names.

A program changes a *state* ``[batch, seq, width]`` (the output of a sublayer, of a weight, ...), and reads other
tensors beside it (the residual stream, the input of the weight, ...), the same for all of its steps. Where a block
gives an adapter some of the rows or positions, it gets those of everything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from adapterhub.errors import CompositionError
from adapterhub.methods import Weight

Read = tuple[Tensor, ...]


class Call(NamedTuple):
    """What a program has to know about the call of the model that is under way.

    ``task_ids`` ``[batch]`` say which task each row is of; ``offset`` is the position of the first token, above 0 where
    earlier ones are in a cache, and below 0 where a trained prompt is before the text, and ``prompt`` the number of
    tokens that ``generate`` began with. ``channels`` is how many times the rows are there, 1 until they are repeated
    for a ``Parallel``; ``task_ids`` are there once. ``mask`` and ``decoder_mask`` ``[batch, seq]`` are 0 for what is no
    text. ``attentions`` collects those of fusions, if they are wanted: for each fusion and site ``[batch, seq,
    adapters]``. ``slots`` say which slot of each bank (by its name) a row uses. ``members`` ``[n]`` say for which of
    several programs that run as one each of n equal shares of the rows is; None: for each program in turn. ``apart``
    keeps them from it: each runs by itself, so that what is inside of it is seen. ``carried`` is what networks beside
    the base carry from layer to layer, by their adapters. ``trunk`` are the states that the layers of a ``Trunk`` are
    to give, ``[batch, seq, width]`` each, as the model has them.
    """

    task_ids: Tensor | None = None
    offset: int = 0
    prompt: int | None = None
    channels: int = 1
    mask: Tensor | None = None
    decoder_mask: Tensor | None = None
    attentions: dict[str, dict[str, Tensor]] | None = None
    slots: "Mapping[str, int | Slots] | None" = None
    members: Tensor | None = None
    apart: bool = False
    carried: dict[str, Tensor] | None = None
    trunk: tuple[Tensor, ...] | None = None

    def of_rows(self, take: "Callable[[Tensor], Tensor]") -> "Call":
        """What is to be known of the call for some rows alone, which ``take`` takes of a tensor ``[batch]``."""
        if self.task_ids is None and self.slots is None:
            return self
        tasks = None if self.task_ids is None else take(self.task_ids)
        slots = self.slots and {
            bank: chosen if isinstance(chosen, int) else chosen.of_rows(take) for bank, chosen in self.slots.items()
        }
        return self._replace(task_ids=tasks, slots=slots)


class Slots(NamedTuple):
    """Which slot of a bank each row uses, ``[batch]``, or ``[1]`` for all; ``used`` is False where it uses none."""

    numbers: Tensor
    used: Tensor | None = None

    def of_rows(self, take: "Callable[[Tensor], Tensor]") -> "Slots":
        """Those of some rows alone."""
        if len(self.numbers) == 1:
            return self
        return Slots(take(self.numbers), None if self.used is None else take(self.used))


class Program(ABC):
    """A program gives the new state when it is called, and ``change`` gives the difference to the old one.

    One that is ``row_by_row`` does not ask which row is which: with others that differ from it in the values of
    parameters alone it can run as one.
    """

    row_by_row: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        """The new state, of the shape of ``state``."""

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        """New state less old one, without rounding it to the state's size where that can be."""
        return self(state, read, call) - state

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        """The state that this program, which reads nothing else, made ``state`` of.

        Raises:
            CompositionError: if there is none, or none that could be computed.
        """
        raise CompositionError(
            f"what invertible adapters {self.names()} give together cannot be inverted, which the output embeddings "
            "need: of these let one act at a time, or in a Stack"
        )

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        """What a weight reads in the place of ``inputs`` under this program."""
        return inputs

    def parts(self) -> "Iterator[Step]":
        """Every step in it."""
        for child in self.inner():
            yield from child.parts()

    def names(self) -> str:
        """The adapters in it, for a message."""
        return ", ".join(dict.fromkeys(step.adapter for step in self.parts()))

    def inner(self) -> "Sequence[Program]":
        """The programs that it is made of."""
        return tuple(child for child in getattr(self, "children", ()) if child is not None)

    @property
    def keeps_base_output(self) -> bool:
        """Whether the base model goes on with the result as with its own (adds it, and applies its norm).

        Raises:
            CompositionError: if some of its steps say yes and some no.
        """
        found = {child.keeps_base_output for child in self.inner()}
        if len(found) > 1:
            raise CompositionError(
                f"adapters {self.names()} cannot act side by side: some leave out the base model's layer norm "
                "(original_ln_after=False), some do not"
            )
        return found.pop() if found else True


@dataclass(frozen=True, eq=False)
class Step(Program):
    """One adapter's part; ``fixed`` is what it takes after the tensors (a norm, a weight)."""

    adapter: str
    part: nn.Module
    fixed: tuple[Any, ...] = ()

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return cast(Tensor, self.part(state, *read, *self.fixed))

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        update = getattr(self.part, "update", None)
        return super().change(state, read, call) if update is None else update(state, *read, *self.fixed)

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return cast(Tensor, cast(Any, self.part).inverse(state))

    def query(self, state: Tensor, read: Read, call: Call) -> Tensor:
        """What the part itself reads, ``[batch, seq, width]``: what a fusion asks with."""
        find = getattr(self.part, "reads", None)
        return state if find is None else find(state, *read, *self.fixed)

    def reading(self, state: Tensor, read: Read) -> tuple[Tensor, ...]:
        """The tensors that the part is given."""
        return (state, *read)

    def acting(self, call: Call) -> Any:
        """The part, as it acts in a call."""
        return self.part

    def used(self, rows: int, call: Call) -> Tensor | None:
        """Which of the ``rows`` of a state it acts on, ``[rows]``; None where that is all."""
        return None

    def parts(self) -> "Iterator[Step]":
        yield self

    @property
    def keeps_base_output(self) -> bool:
        return getattr(self.part, "keeps_base_output", True)


class NormStep(Step):
    """An adapter's own copy of a norm, which reads what the base model's norm read."""

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return cast(Tensor, self.part(*read))

    def reading(self, state: Tensor, read: Read) -> tuple[Tensor, ...]:
        return read


@dataclass(frozen=True, eq=False)
class ThroughWeight(Program):
    """What changes the input of a weight, as a change of its output: beside others that change that."""

    program: Program
    weight: Weight

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return state + self.change(state, read, call)

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        (inputs,) = read
        return self.weight.apply(self.weight.matrix, self.program.change(inputs, (), call))

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        return self.program(inputs, (), call)

    def inner(self) -> Sequence[Program]:
        return (self.program,)


@dataclass(frozen=True, eq=False)
class Chain(Program):
    """One after another (Stack)."""

    children: tuple[Program, ...]

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        for child in self.children:
            state = child(state, read, call)
        return state

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        total = self.children[0].change(state, read, call)
        for child in self.children[1:]:
            total = total + child.change(state + total, read, call)
        return total

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        for child in reversed(self.children):
            state = child.inverse(state, call)
        return state

    @property
    def keeps_base_output(self) -> bool:
        return self.children[-1].keeps_base_output


class _ByChange(Program):
    """A program that is known by what it changes."""

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return state + self.change(state, read, call).to(state.dtype)


@dataclass(frozen=True, eq=False)
class WeightChain(_ByChange):
    """One after another at a weight (Stack): each reads what those before it made of the input of the weight."""

    children: tuple[Program, ...]

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        (inputs,) = read
        total = self.children[0].change(state, read, call)
        for before, child in pairwise(self.children):
            inputs = before.reads(inputs, call)
            total = total + child.change(state + total, (inputs,), call)
        return total

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        for child in self.children:
            inputs = child.reads(inputs, call)
        return inputs


@dataclass(frozen=True, eq=False)
class Mean(_ByChange):
    """The weighted sum of changes (Average); an adapter that does not act here changes nothing."""

    children: tuple[Program, ...]
    weights: tuple[float, ...]

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        changes = [
            weight * child.change(state, read, call) for child, weight in zip(self.children, self.weights, strict=True)
        ]
        return sum(changes[1:], changes[0])

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        changes = [
            weight * (child.reads(inputs, call) - inputs)
            for child, weight in zip(self.children, self.weights, strict=True)
        ]
        return sum(changes, inputs)


@dataclass(frozen=True, eq=False)
class Fused(_ByChange):
    """Changes weighed by attention over them (Fuse); ``layer`` is that of the fusion at this site."""

    children: tuple[Program, ...]
    layer: Step
    fusion: str
    site: str

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        changes = torch.stack([child.change(state, read, call) for child in self.children], dim=-2)
        *_, last = self.parts()
        fused, attention = self.layer.acting(call)(state, last.query(state, read, call), changes)
        if call.attentions is not None:
            call.attentions.setdefault(self.fusion, {})[self.site] = attention
        return cast(Tensor, fused)
