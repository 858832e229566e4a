"""Heads that answer for rows of their own: those of one shape are computed as one."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from adapterhub.engine.alike import alike
from adapterhub.engine.program import Step
from adapterhub.engine.stacked import MembersStep
from adapterhub.heads.bank import HeadBank
from adapterhub.heads.base import FeatureHead, Head, HeadContext
from adapterhub.heads.routing import for_channels, part_of

Answering = Head | HeadBank
Own = tuple[Answering, Tensor]  # a head, and the numbers of its rows
_NOT_ANSWERED = ("last_hidden_state", "pooler_output")  # outputs that are read for features alone


class SideBySide:
    """Runs heads side by side; what it made for those that it ran last is kept for the next call."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Answering, ...], list[tuple[list[int], MembersStep | None]]] | None = None

    def answers(self, heads: Sequence[Own], context: HeadContext, total: int, channels: int) -> list[ModelOutput]:
        """What each head answers for its rows, out of ``total``; with several ``channels``, each for one of these."""
        found: dict[int, ModelOutput] = {}
        for numbers, step in self._groups(tuple(head for head, _ in heads)):
            group = [heads[number] for number in numbers]
            if step is None:
                answers = [head(part_of(context, rows, total, channels > 1)) for head, rows in group]
            else:
                answers = _as_one(group, step, context, total, channels)
            found |= zip(numbers, answers, strict=True)
        return [found[number] for number in range(len(heads))]

    def _groups(self, heads: tuple[Answering, ...]) -> list[tuple[list[int], MembersStep | None]]:
        """The numbers of heads that are alike, and what runs as their layers; None for a head by itself."""
        if torch.compiler.is_compiling():  # a compiler sees all heads, and joins them as it likes
            return [([number], None) for number in range(len(heads))]
        last = self._last
        if last is not None and len(last[0]) == len(heads) and all(map(_is, last[0], heads)):
            return last[1]
        groups: list[list[int]] = []
        for number, head in enumerate(heads):
            group = next((group for group in groups if _alike(heads[group[0]], head)), None)
            if group is None:
                groups.append([number])
            else:
                group.append(number)
        made = [(group, _step([heads[number] for number in group])) for group in groups]
        self._last = heads, made
        return made


def _as_one(
    heads: Sequence[Own], step: MembersStep, context: HeadContext, total: int, channels: int
) -> list[ModelOutput]:
    """The answers of heads that are alike."""
    first, _ = heads[0]
    assert isinstance(first, FeatureHead)
    sizes = [len(rows) for _, rows in heads]
    every = torch.cat([rows for _, rows in heads])
    whole = for_channels(context, total // channels, channels) if channels > 1 else context
    features = first.features(part_of(whole, every, total, whole_batch=False))
    share = math.gcd(*sizes)
    members = torch.tensor([number for number, size in enumerate(sizes) for _ in range(size // share)])
    scores = step.run("forward", None if len(members) == len(heads) else members, (features,))
    answered = {name: value for name, value in context.outputs.items() if name not in _NOT_ANSWERED}
    light = replace(context, outputs=ModelOutput(answered))
    parts = scores.split(sizes)
    return [
        head.answer(part_of(light, rows, total, channels > 1), own)
        for (head, rows), own in zip(heads, parts, strict=True)
        if isinstance(head, FeatureHead)
    ]


def _step(heads: Sequence[Answering]) -> MembersStep | None:
    known = [head for head in heads if isinstance(head, FeatureHead)]
    return MembersStep.of([Step(head.name, head.layers) for head in known]) if len(known) > 1 else None


def _alike(one: Answering, other: Answering) -> bool:
    """Whether two heads differ in the values of their parameters alone, and the names of their classes."""
    if type(one) is not type(other) or not isinstance(one, FeatureHead) or not isinstance(other, FeatureHead):
        return False
    hooked = any(head._forward_hooks or head._forward_pre_hooks for head in (one, other))
    return not hooked and one is not other and one.reading == other.reading and alike(one.layers, other.layers)


def _is(one: Answering, other: Answering) -> bool:
    return one is other
