"""Programs that divide what they act on: rows, the channels of a ``Parallel``, positions.

There is one order of rows: all of the batch for the first channel of a ``Parallel``, then all for the second, ...; what
belongs to one row of one channel (its beams, or its positions where the base model has put rows and positions into one
dimension) follows one another. Whoever repeats a batch says so in the ``Call``.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapterhub.engine.alike import alike, merged
from adapterhub.engine.program import Call, Program, Read
from adapterhub.errors import CompositionError

Run = Callable[[Program, Tensor, Read, Call], Tensor]


class Group(NamedTuple):
    """Programs that run as one, and their ``rows`` in that order.

    Where these are several programs, the rows are equal shares that follow one another, and ``members`` says which of
    the programs each share is for; None is each one in turn.
    """

    program: Program | None
    rows: tuple[int, ...]
    shares: int = 1
    members: Tensor | None = None


class Division(NamedTuple):
    """Rows in the ``order`` of their groups; ``back`` undoes that, None where nothing is to be undone."""

    groups: tuple[Group, ...]
    order: list[int]
    back: list[int] | None

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Division":
        """That of some groups."""
        order = [row for group in groups for row in group.rows]
        back = None if order == sorted(order) else sorted(range(len(order)), key=order.__getitem__)
        return cls(tuple(groups), order, back)


@dataclass(frozen=True, eq=False)
class Routed(Program):
    """Rows divided among programs (BatchSplit, Rows): ``rows[i]`` are those of child i.

    Each of all these may be several that follow one another (beams, positions), and all of them are there once for each
    channel. A child that is None leaves its rows as they are. Children that are alike run as one.
    """

    row_by_row: ClassVar[bool] = False

    children: tuple[Program | None, ...]
    rows: tuple[tuple[int, ...], ...]
    together: Division = field(init=False)
    apart: Division = field(init=False)

    def __post_init__(self) -> None:
        flat = list(_flat(type(self), self.children, self.rows))
        object.__setattr__(self, "together", Division.of(_groups(flat)))
        object.__setattr__(self, "apart", Division.of([Group(child, own) for child, own in flat]))

    @property
    def total(self) -> int:
        """How many rows, or equal groups of them, there are."""
        return len(self.together.order)

    def division(self, call: Call) -> Division:
        """How rows are divided in a call."""
        return self.apart if call.apart else self.together

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
        """Every group's program, its state, and what it is called with beside it."""
        division, repeats = self.division(call), self._repeats(call)
        tensors = [self._divided(tensor, division, repeats) for tensor in (state, *read)]
        for group, own_call, own, *own_read in zip(division.groups, self._calls(call), *tensors, strict=True):
            yield group.program, own, (tuple(own_read), own_call)

    def joined(self, results: Sequence[Tensor], call: Call) -> Tensor:
        """What groups gave ``[rows, ...]`` in the order of the batch."""
        repeats, dtype = self._repeats(call), results[0].dtype
        groups, _, back = self.division(call)
        joined = _together([_by_row(own.to(dtype), group, repeats) for own, group in zip(results, groups, strict=True)])
        return (joined if back is None else joined[:, back]).flatten(0, 2)

    def _repeats(self, call: Call) -> int:
        """How many times the rows are there."""
        return call.channels

    def _calls(self, call: Call) -> Iterator[Call]:
        """What each group has to know of the call."""
        division = self.division(call)
        for at, group in enumerate(division.groups):
            own = call.of_rows(lambda one, at=at: self._divided(one, division, 1)[at])  # type: ignore[misc]
            yield own._replace(members=group.members)

    def _divided(self, tensor: Tensor, division: Division, repeats: int) -> list[Tensor]:
        total, shares = self.total, repeats * self.total
        if tensor.shape[0] == 1 and shares > 1:
            tensor = tensor.expand(shares, *tensor.shape[1:])
        each, rest = tensor.shape[0] // shares, tensor.shape[0] % shares  # symbols have no divmod
        if rest:
            times = f" in each of {repeats} channels" if repeats > 1 else ""
            raise CompositionError(f"the active setup is for {total} rows{times}, and a batch has {tensor.shape[0]}")
        by_row = tensor.unflatten(0, (repeats, total, each))
        by_row = by_row if division.back is None else by_row[:, division.order]
        parts = by_row.split([len(group.rows) for group in division.groups], dim=1)
        return [_by_share(own, group) for own, group in zip(parts, division.groups, strict=True)]


@dataclass(frozen=True, eq=False)
class Channels(Routed):
    """Channels divided among programs (Parallel), ``rows`` are their numbers: each child sees a batch of its own."""

    def _repeats(self, call: Call) -> int:
        return 1

    def _calls(self, call: Call) -> Iterator[Call]:
        for group in self.division(call).groups:
            yield call._replace(channels=len(group.rows), members=group.members)


def _flat(
    kind: type[Routed], children: Sequence[Program | None], rows: Sequence[tuple[int, ...]]
) -> Iterator[tuple[Program | None, tuple[int, ...]]]:
    """Every child with its rows, those of children that divide them in the same way in their place."""
    for child, own in zip(children, rows, strict=True):
        if child is None or type(child) is not kind:
            yield child, own
            continue
        each = len(own) // child.total
        inner = [tuple(own[row * each + one] for row in of for one in range(each)) for of in child.rows]
        yield from _flat(kind, child.children, inner)


def _groups(found: Iterable[tuple[Program | None, tuple[int, ...]]]) -> list[Group]:
    """Programs that are alike together, in the order of the first of each."""
    groups: list[list[tuple[Program | None, tuple[int, ...]]]] = []
    for child, own in found:
        group = next((group for group in groups if alike(group[0][0], child)), None)
        if group is None:
            groups.append([(child, own)])
        else:
            group.append((child, own))
    return list(map(_group, groups))


def _group(found: Sequence[tuple[Program | None, tuple[int, ...]]]) -> Group:
    programs = [program for program, _ in found if program is not None]
    member_of = {row: member for member, (_, own) in enumerate(found) for row in own}
    rows = tuple(sorted(member_of))
    if len(programs) < 2:
        return Group(programs[0] if programs else None, rows)
    # Rows keep their order, and parameters are there once for each share of them: to sort rows by program, or to fill
    # those of each up to equal shares, takes longer, as do multiplications of shares of unlike sizes.
    runs = [len(list(run)) for _, run in groupby(rows, key=member_of.__getitem__)]
    share = math.gcd(*runs)
    members = [member_of[row] for row in rows[::share]]
    in_turn = members == list(range(len(found)))
    return Group(merged(programs), rows, len(members), None if in_turn else torch.tensor(members))


def _by_share(rows: Tensor, group: Group) -> Tensor:
    """``[repeats, rows, each, ...]`` of a group as its program takes them: share after share."""
    if group.shares == 1 or rows.shape[0] == 1:
        return rows.flatten(0, 2)
    return rows.unflatten(1, (group.shares, -1)).transpose(0, 1).flatten(0, 3)


def _by_row(rows: Tensor, group: Group, repeats: int) -> Tensor:
    """What a program gave, ``[repeats, rows, each, ...]``."""
    if group.shares == 1 or repeats == 1:
        return rows.unflatten(0, (repeats, len(group.rows), -1))
    shares = rows.unflatten(0, (group.shares, repeats, len(group.rows) // group.shares, -1))
    return shares.transpose(0, 1).flatten(1, 2)


def _together(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


@dataclass(frozen=True, eq=False)
class ByTask(Program):
    """Each row to the program of its task (MultiTask). Programs that are alike run as one."""

    row_by_row: ClassVar[bool] = False

    children: tuple[Program | None, ...]
    whole: Program | None = field(init=False)  # what runs as all of them

    def __post_init__(self) -> None:
        known = [child for child in self.children if child is not None]
        one = len(known) == len(self.children) and all(alike(known[0], child) for child in known)
        object.__setattr__(self, "whole", merged(known) if one else None)

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._by_task(state, read, call, lambda child, own, around, own_call: child(own, around, own_call))

    def inverse(self, state: Tensor, call: Call) -> Tensor:
        return self._by_task(state, (), call, lambda child, own, around, own_call: child.inverse(own, own_call))

    def reads(self, inputs: Tensor, call: Call) -> Tensor:
        return self._by_task(inputs, (), call, lambda child, own, around, own_call: child.reads(own, own_call))

    def _by_task(self, state: Tensor, read: Read, call: Call, run: Run) -> Tensor:
        if state.shape[0] == 1 and call.task_ids is not None:
            state = state.expand(call.channels * len(call.task_ids), *state.shape[1:])
        if self.whole is not None and len(state) and not call.apart:
            tasks, _ = self._tasks(state, call)
            return run(self.whole, state, read, call._replace(members=tasks.repeat(call.channels)))
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
        tasks, each = self._tasks(state, call)
        of_rows = tasks.to(state.device).repeat_interleave(each).repeat(call.channels)
        for task, child in enumerate(self.children):
            here = tasks == task
            own_call = call.of_rows(lambda one, here=here: one[here.to(one.device)])  # type: ignore[misc]
            yield child, (of_rows == task).nonzero().flatten(), own_call

    def _tasks(self, state: Tensor, call: Call) -> tuple[Tensor, int]:
        """The tasks of the rows of the batch, and how often each of these is there in a channel."""
        tasks = call.task_ids
        if tasks is None:
            raise CompositionError("a MultiTask setup is active: pass task_ids=[...] to the model, one for each row")
        groups = max(1, call.channels * len(tasks))  # no row may be of a task that a MultiTask inside divides
        each, rest = state.shape[0] // groups, state.shape[0] % groups
        if rest:
            raise CompositionError(f"task_ids are for {len(tasks)} rows, and a batch has {state.shape[0]}")
        return tasks, each


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
