"""Programs that divide what they act on: rows, the channels of a ``Parallel``, positions.

There is one order of rows: all of the batch for the first channel of a ``Parallel``, then all for the second, ...; what
belongs to one row of one channel (its beams, or its positions where the base model has put rows and positions into one
dimension) follows one another. Whoever repeats a batch says so in the ``Call``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, repeat

import torch
from torch import Tensor

from adapterhub.engine.program import Call, Program, Read
from adapterhub.errors import CompositionError

Run = Callable[[Program, Tensor, Read, Call], Tensor]


@dataclass(frozen=True, eq=False)
class Routed(Program):
    """Rows divided among programs (BatchSplit, Rows): ``rows[i]`` are those of child i, out of ``total``.

    Each of ``total`` may be several that follow one another (beams, positions), and all of them are there once for each
    channel. A child that is None leaves its rows as they are.
    """

    children: tuple[Program | None, ...]
    rows: tuple[tuple[int, ...], ...]
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
        return self.joined([own if child is None else child(own, *around) for child, own, around in given], call)

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        given = self.own(state, read, call)
        changes = [
            torch.zeros_like(own) if child is None else child.change(own, *around) for child, own, around in given
        ]
        return self.joined(changes, call)

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        given = self.own(state, (), call)
        found = [own if child is None else child.inverse(own, around[1]) for child, own, around in given]
        return self.joined(found, call)

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        given = self.own(inputs, (), call)
        found = [own if child is None else child.reads(own, around[1]) for child, own, around in given]
        return self.joined(found, call)

    def own(self, state: Tensor, read: Read, call: Call) -> Iterator[tuple[Program | None, Tensor, tuple[Read, Call]]]:
        """Every child, its state, and what it is called with beside it."""
        tensors = [self._divided(tensor, self._repeats(call)) for tensor in (state, *read)]
        for child, own_call, own, *own_read in zip(self.children, self._calls(call), *tensors, strict=True):
            yield child, own, (tuple(own_read), own_call)

    def joined(self, results: Sequence[Tensor], call: Call) -> Tensor:
        """What children gave ``[rows, ...]`` in the order of the batch."""
        repeats, dtype = self._repeats(call), results[0].dtype
        parts = zip(results, self.rows, strict=True)
        joined = torch.cat([own.to(dtype).unflatten(0, (repeats, len(rows), -1)) for own, rows in parts], dim=1)
        return (joined if self.back is None else joined[:, self.back]).flatten(0, 2)

    def _repeats(self, call: Call) -> int:
        """How many times ``total`` is there."""
        return call.channels

    def _calls(self, call: Call) -> Iterator[Call]:
        """What each child has to know of the call."""
        if call.task_ids is None:
            return repeat(call, len(self.children))
        return (call._replace(task_ids=own) for own in self._divided(call.task_ids, 1))

    def _divided(self, tensor: Tensor, repeats: int) -> list[Tensor]:
        groups = repeats * self.total
        if tensor.shape[0] == 1 and groups > 1:
            tensor = tensor.expand(groups, *tensor.shape[1:])
        each, rest = tensor.shape[0] // groups, tensor.shape[0] % groups  # symbols have no divmod
        if rest:
            times = f" in each of {repeats} channels" if repeats > 1 else ""
            raise CompositionError(
                f"the active setup is for {self.total} rows{times}, and a batch has {tensor.shape[0]}"
            )
        by_row = tensor.unflatten(0, (repeats, self.total, each))
        by_row = by_row if self.back is None else by_row[:, self.order]
        return [own.flatten(0, 2) for own in by_row.split([len(rows) for rows in self.rows], dim=1)]


@dataclass(frozen=True, eq=False)
class Channels(Routed):
    """Channels divided among programs (Parallel), ``rows`` are their numbers: each child sees a batch of its own."""

    def _repeats(self, call: Call) -> int:
        return 1

    def _calls(self, call: Call) -> Iterator[Call]:
        return (call._replace(channels=len(own)) for own in self.rows)


@dataclass(frozen=True, eq=False)
class ByTask(Program):
    """Each row to the program of its task (MultiTask)."""

    children: tuple[Program | None, ...]

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._by_task(state, read, call, lambda child, own, around, own_call: child(own, around, own_call))

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return self._by_task(state, (), call, lambda child, own, around, own_call: child.inverse(own, own_call))

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        return self._by_task(inputs, (), call, lambda child, own, around, own_call: child.reads(own, own_call))

    def _by_task(self, state: Tensor, read: Read, call: Call, run: Run) -> Tensor:
        if state.shape[0] == 1 and call.task_ids is not None:
            state = state.expand(call.channels * len(call.task_ids), *state.shape[1:])
        result = state
        for child, rows, own_call in self.own(state, call):
            if child is None or not len(rows):
                continue
            own = [tensor if tensor.shape[0] == 1 else tensor[rows] for tensor in read]
            new = run(child, state[rows], tuple(own), own_call)
            result = result.index_copy(0, rows, new.to(state.dtype))
        return result

    def own(self, state: Tensor, call: Call) -> Iterator[tuple[Program | None, Tensor, Call]]:
        """Every child, the numbers of its rows in ``state``, and what it has to know of the call.

        Raises:
            CompositionError: if the call does not say which task each row is of.
        """
        tasks = call.task_ids
        if tasks is None:
            raise CompositionError("a MultiTask setup is active: pass task_ids=[...] to the model, one for each row")
        groups = max(1, call.channels * len(tasks))  # no row may be of a task that a MultiTask inside divides
        each, rest = state.shape[0] // groups, state.shape[0] % groups
        if rest:
            raise CompositionError(f"task_ids are for {len(tasks)} rows, and a batch has {state.shape[0]}")
        of_rows = tasks.to(state.device).repeat_interleave(each).repeat(call.channels)
        for task, child in enumerate(self.children):
            yield child, (of_rows == task).nonzero().flatten(), call._replace(task_ids=tasks[tasks == task])


@dataclass(frozen=True, eq=False)
class ByPosition(Program):
    """Positions divided among programs (Split): ``splits[i]`` to child i, and what is left to the last."""

    children: tuple[Program | None, ...]
    splits: tuple[int, ...]

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._by_position(state, read, call, lambda child, own, around, own_call: child(own, around, own_call))

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return self._by_position(state, (), call, lambda child, own, around, own_call: child.inverse(own, own_call))

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        return self._by_position(inputs, (), call, lambda child, own, around, own_call: child.reads(own, own_call))

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
