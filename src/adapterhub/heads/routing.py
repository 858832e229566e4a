"""Which rows each head answers for, under a composition of heads."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from adapterhub.composition import (
    Average,
    BatchSplit,
    Composition,
    Fuse,
    MultiTask,
    Parallel,
    Rows,
    Split,
    channels_of,
)
from adapterhub.engine.repeat import repeated_inputs
from adapterhub.errors import HeadError
from adapterhub.heads.base import HeadContext

Assigned = list[tuple[str, Tensor]]


def heads_of(setup: Composition | str | None, heads: Collection[str]) -> "str | Composition | None":
    """The heads that go with a setup: those named like the last adapters; None where there are none of that name.

    A fusion's head has the name of the fusion. Where rows have adapters of their own, they have heads of their own.
    """
    match setup:
        case None:
            return None
        case str():
            return setup if setup in heads else None
        case Fuse():
            return setup.fusion if setup.fusion in heads else None
        case Average() | Split():
            return None
        case BatchSplit() | Rows() | MultiTask():
            found = [heads_of(child, heads) for child in setup]
        case Parallel():
            return _by_channel(setup, heads)
        case _:
            return heads_of(setup[-1], heads)
    if any(child is not None and not isinstance(own, str) for child, own in zip(setup, found, strict=True)):
        return None
    if len(set(found)) == 1:
        return found[0]
    return BatchSplit(*found, batch_sizes=setup.batch_sizes) if isinstance(setup, BatchSplit) else type(setup)(*found)


def _by_channel(setup: Parallel, heads: Collection[str]) -> "str | Parallel | None":
    """The head of every channel of a ``Parallel``, of those inside too; None if a channel's is not one alone."""
    names: list[str] = []
    for child in setup:
        match heads_of(child, heads):
            case str() as name:
                names += [name] * channels_of(child)
            case Parallel() as own:
                names += own
            case _:
                return None
    return names[0] if len(set(names)) == 1 else Parallel(*names)


def assigned_rows(heads: Composition, rows: int, task_ids: Tensor | None, channels: int = 1) -> Assigned:
    """The name of each head of a composition, and the numbers of its rows in the output of the base model.

    ``rows`` is how many that output has: those of every channel, one channel after another.

    Raises:
        HeadError: for a composition that says nothing of rows, or another number of rows.
    """
    of_channel = rows // channels
    match heads:
        case Parallel():
            return _consecutive(heads, rows, [1] * len(heads))
        case BatchSplit():
            found = _consecutive(heads, of_channel, heads.batch_sizes)
        case Rows():
            found = _by_name(heads, of_channel)
        case MultiTask():
            if task_ids is None:
                raise HeadError("a MultiTask of heads is active: pass task_ids=[...] to the model, one for each row")
            tasks = task_ids.repeat_interleave(of_channel // len(task_ids))
            found = [(name, (tasks == task).nonzero().flatten()) for task, name in enumerate(heads)]
        case _:
            raise HeadError(f"{heads!r} does not say which head answers for which row")
    return [(name, torch.cat([own + channel * of_channel for channel in range(channels)])) for name, own in found]


def for_channels(context: HeadContext, rows: int, channels: int) -> HeadContext:
    """What heads see where each answers for some rows of every channel: what the caller gave, for each of these."""
    given = {"inputs": context.inputs, "base_inputs": context.base_inputs, "targets": context.targets}
    return replace(context, **{name: repeated_inputs(dict(own), rows, channels) for name, own in given.items()})


def part_of(context: HeadContext, rows: Tensor, total: int, whole_batch: bool) -> HeadContext:
    """What a head sees that answers for some ``rows`` of the ``total`` that the base model gave.

    With ``whole_batch`` they are one channel's, for the batch as the caller gave it.
    """
    outputs = copy(context.outputs)
    for key, value in context.outputs.items():
        outputs[key] = _rows_of(value, rows, total)
    base_inputs = _named(context.base_inputs, rows, total)
    part = replace(context, outputs=outputs, base_inputs=base_inputs, rows=rows, total=total)
    if whole_batch:
        return part
    return replace(part, inputs=_named(context.inputs, rows, total), targets=_named(context.targets, rows, total))


def _consecutive(heads: Composition, rows: int, sizes: Sequence[int]) -> Assigned:
    each, rest = rows // sum(sizes), rows % sum(sizes)  # of torch.export, rows are a symbol, which has no divmod
    if rest:
        raise HeadError(f"{heads!r} is for {sum(sizes)} rows, or a multiple, and there are {rows}")
    ends = list(accumulate(size * each for size in sizes))
    return [(name, torch.arange(end - size * each, end)) for name, size, end in zip(heads, sizes, ends, strict=True)]


def _by_name(heads: Rows, rows: int) -> Assigned:
    each, rest = rows // len(heads), rows % len(heads)
    if rest:
        raise HeadError(f"{heads!r} is for {len(heads)} rows, or a multiple, and there are {rows}")
    found: dict[str, list[int]] = {}
    for row, name in enumerate(heads):
        if name is not None:
            found.setdefault(name, []).extend(range(row * each, (row + 1) * each))
    return [(name, torch.tensor(own)) for name, own in found.items()]


def _named(values: Mapping[str, Any], rows: Tensor, total: int) -> dict[str, Any]:
    return {key: _rows_of(value, rows, total) for key, value in values.items()}


def _rows_of(value: Any, rows: Tensor, total: int) -> Any:
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.dim() and value.shape[0] == total else value
    if type(value) is tuple:
        return tuple(_rows_of(item, rows, total) for item in value)
    return value
