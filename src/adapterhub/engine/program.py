"""What runs at one site: a composition with the parts of adapters in the place of their names.

A program changes a *state* ``[batch, seq, width]`` (the output of a sublayer, of a weight, ...), and reads other
tensors beside it (the residual stream, the input of the weight, ...), the same for all of its steps. Where a block
gives an adapter some of the rows or positions, it gets those of everything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from adapterhub.errors import CompositionError
from adapterhub.methods import Weight

Read = tuple[Tensor, ...]
Run = Callable[["Program", Tensor, Read, "Call"], Tensor]


class Call(NamedTuple):
    """What a program has to know about the call of the model that is under way.

    ``task_ids`` ``[batch]`` say which task each row is of; ``offset`` is the position of the first token, above 0 where
    earlier ones are in a cache, and below 0 where a trained prompt is before the text, and ``prompt`` the number of
    tokens that ``generate`` began with. ``mask`` and ``decoder_mask`` ``[batch, seq]`` are 0 for what is no text.
    ``attentions`` collects those of fusions, if they are wanted: for each fusion and site ``[batch, seq, adapters]``.
    """

    task_ids: Tensor | None = None
    offset: int = 0
    prompt: int | None = None
    mask: Tensor | None = None
    decoder_mask: Tensor | None = None
    attentions: dict[str, dict[str, Tensor]] | None = None


class Program(ABC):
    """A program gives the new state when it is called, and ``change`` gives the difference to the old one."""

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

    def query(self, state: Tensor, read: Read) -> Tensor:
        """What the part itself reads, ``[batch, seq, width]``: what a fusion asks with."""
        find = getattr(self.part, "reads", None)
        return state if find is None else find(state, *read, *self.fixed)

    def parts(self) -> "Iterator[Step]":
        yield self

    @property
    def keeps_base_output(self) -> bool:
        return getattr(self.part, "keeps_base_output", True)


class NormStep(Step):
    """An adapter's own copy of a norm, which reads what the base model's norm read."""

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        (inputs,) = read
        return cast(Tensor, self.part(inputs))


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
class Mean(_ByChange):
    """The weighted sum of changes (Average); an adapter that does not act here changes nothing."""

    children: tuple[Program, ...]
    weights: tuple[float, ...]

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        changes = [
            weight * child.change(state, read, call) for child, weight in zip(self.children, self.weights, strict=True)
        ]
        return sum(changes[1:], changes[0])


@dataclass(frozen=True, eq=False)
class Fused(_ByChange):
    """Changes weighed by attention over them (Fuse); ``layer`` is that of the fusion at this site."""

    children: tuple[Program, ...]
    layer: nn.Module
    fusion: str
    site: str

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        changes = torch.stack([child.change(state, read, call) for child in self.children], dim=-2)
        *_, last = self.parts()
        fused, attention = self.layer(state, last.query(state, read), changes)
        if call.attentions is not None:
            call.attentions.setdefault(self.fusion, {})[self.site] = attention
        return cast(Tensor, fused)


@dataclass(frozen=True, eq=False)
class Routed(Program):
    """Rows divided among programs (BatchSplit, Rows, Parallel): ``rows[i]`` are those of child i, out of ``total``.

    A batch may have a multiple of ``total`` rows: of beams, or of positions where the base model has put rows and
    positions into one dimension. Each of ``total`` then has that many that follow one another. A child that is None
    leaves its rows as they are. With ``whole_batches`` every child sees a batch of its own (Parallel).
    """

    children: tuple[Program | None, ...]
    rows: tuple[tuple[int, ...], ...]
    whole_batches: bool = False
    order: list[int] = field(init=False)
    back: list[int] | None = field(init=False)  # undoes ``order``; None where nothing is to be undone

    def __post_init__(self) -> None:
        order = [row for rows in self.rows for row in rows]
        back = None if order == sorted(order) else sorted(range(len(order)), key=order.__getitem__)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "back", back)

    @property
    def total(self) -> int:
        """How many rows, or equal groups of them, there are."""
        return len(self.order)

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        given = self.own(state, read, call)
        return self._joined([own if child is None else child(own, *around) for child, own, around in given])

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        given = self.own(state, read, call)
        changes = [
            torch.zeros_like(own) if child is None else child.change(own, *around) for child, own, around in given
        ]
        return self._joined(changes)

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        given = self.own(state, (), call)
        return self._joined([own if child is None else child.inverse(own, around[1]) for child, own, around in given])

    def own(self, state: Tensor, read: Read, call: Call) -> Iterator[tuple[Program | None, Tensor, tuple[Read, Call]]]:
        """Every child, its state, and what it is called with beside it."""
        tensors = [self._divided(tensor) for tensor in (state, *read)]
        tasks: Sequence[Tensor | None] = [call.task_ids] * len(self.children)
        if call.task_ids is not None and not self.whole_batches:
            tasks = self._divided(call.task_ids)
        for child, own_tasks, own, *own_read in zip(self.children, tasks, *tensors, strict=True):
            yield child, own, (tuple(own_read), call._replace(task_ids=own_tasks))

    def _joined(self, results: list[Tensor]) -> Tensor:
        return self.restored(torch.cat([result.to(results[0].dtype) for result in results]))

    def restored(self, joined: Tensor) -> Tensor:
        """What children gave, one after another ``[rows, ...]``, in the order of the batch."""
        return joined if self.back is None else joined.unflatten(0, (self.total, -1))[self.back].flatten(0, 1)

    def _divided(self, tensor: Tensor) -> list[Tensor]:
        if tensor.shape[0] == 1 and self.total > 1:
            tensor = tensor.expand(self.total, *tensor.shape[1:])
        each, rest = tensor.shape[0] // self.total, tensor.shape[0] % self.total  # symbols have no divmod
        if rest:
            raise CompositionError(f"the active setup is for {self.total} rows, and a batch has {tensor.shape[0]}")
        if self.back is not None:
            tensor = tensor.unflatten(0, (self.total, each))[self.order].flatten(0, 1)
        return list(tensor.split([len(rows) * each for rows in self.rows]))


@dataclass(frozen=True, eq=False)
class ByTask(Program):
    """Each row to the program of its task (MultiTask)."""

    children: tuple[Program | None, ...]

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._by_task(state, read, call, lambda child, own, around, own_call: child(own, around, own_call))

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return self._by_task(state, (), call, lambda child, own, around, own_call: child.inverse(own, own_call))

    def _by_task(self, state: Tensor, read: Read, call: Call, run: Run) -> Tensor:
        if state.shape[0] == 1 and call.task_ids is not None:
            state = state.expand(len(call.task_ids), *state.shape[1:])
        result = state
        tasks = self._tasks(state, call)
        for child, rows in zip(self.children, self._rows(tasks), strict=True):
            if child is None or not len(rows):
                continue
            own = [tensor if tensor.shape[0] == 1 else tensor[rows] for tensor in read]
            new = run(child, state[rows], tuple(own), call._replace(task_ids=tasks[rows]))
            result = result.index_copy(0, rows, new.to(state.dtype))
        return result

    def rows_by_task(self, state: Tensor, call: Call) -> list[Tensor]:
        """The numbers of each child's rows.

        Raises:
            CompositionError: if the call does not say which task each row is of.
        """
        return self._rows(self._tasks(state, call))

    def _rows(self, tasks: Tensor) -> list[Tensor]:
        return [(tasks == task).nonzero().flatten() for task in range(len(self.children))]

    def _tasks(self, state: Tensor, call: Call) -> Tensor:
        tasks = call.task_ids
        if tasks is None:
            raise CompositionError("a MultiTask setup is active: pass task_ids=[...] to the model, one for each row")
        each, rest = state.shape[0] // len(tasks), state.shape[0] % len(tasks)
        if rest:
            raise CompositionError(f"task_ids are for {len(tasks)} rows, and a batch has {state.shape[0]}")
        return tasks.to(state.device).repeat_interleave(each)


@dataclass(frozen=True, eq=False)
class ByPosition(Program):
    """Positions divided among programs (Split): ``splits[i]`` to child i, and what is left to the last."""

    children: tuple[Program | None, ...]
    splits: tuple[int, ...]

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._by_position(state, read, call, lambda child, own, around, own_call: child(own, around, own_call))

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return self._by_position(state, (), call, lambda child, own, around, own_call: child.inverse(own, own_call))

    def _by_position(self, state: Tensor, read: Read, call: Call, run: Run) -> Tensor:
        if state.dim() < 3:
            raise CompositionError(
                "a Split is active at a place where this model does not keep the positions of a sequence apart"
            )
        length = state.shape[1]
        starts = [0, *accumulate(self.splits[:-1])]
        results = []
        for child, start, end in zip(self.children, starts, [*starts[1:], None], strict=True):
            first = max(0, start - call.offset) if start else 0
            here = slice(first, length if end is None else max(0, end - call.offset))
            own = state[:, here]
            if child is not None and own.shape[1]:
                own_read = tuple(one[:, here] if one.shape[1] == length else one for one in read)
                offset = max(0, call.offset - start) if start else call.offset
                own = run(child, own, own_read, call._replace(offset=offset))
            results.append(own)
        return torch.cat([result.to(state.dtype) for result in results], dim=1)
