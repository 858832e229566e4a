"""What adapters put beside the tokens of a text (prefixes, prompts): that of a composition, for every row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.engine.divided import ByTask, Routed
from adapterhub.engine.program import Call, Chain, Program, Step
from adapterhub.errors import CompositionError

E = TypeVar("E", bound="Extra")


@dataclass(frozen=True)
class Extra(ABC):
    """Some extra tokens for every row, and which of them a row has: ``[batch, tokens]``, or all."""

    present: Tensor | None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """How many rows there are, and how many tokens."""

    @classmethod
    @abstractmethod
    def of(cls, part: nn.Module, state: Tensor) -> Self:
        """What a part of an adapter gives for the rows of ``state`` ``[batch, seq, ...]``."""

    @abstractmethod
    def rows(self, rows: Tensor) -> Self:
        """That of some rows."""

    @abstractmethod
    def filled(self, missing: int) -> Self:
        """As many tokens more in front, that no row has."""

    @abstractmethod
    def nothing(self, rows: int) -> Self:
        """As many tokens, that no row has, for a number of rows."""

    @classmethod
    def in_turn(cls, found: Sequence[Self]) -> Sequence[Self]:
        """Those of a ``Stack`` in the order in which they stand: that of the adapters."""
        return found

    @classmethod
    @abstractmethod
    def together(cls, found: Sequence[Self], tokens: bool, present: Tensor | None) -> Self:
        """Several as one: one after another (``tokens``), or each for rows of its own."""

    def which(self) -> Tensor:
        """``present``, told for every row."""
        if self.present is not None:
            return self.present
        return torch.ones(self.shape, dtype=torch.bool, device=self.device)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it is."""


def check(program: Program, what: str) -> None:
    """Pass a program that extra tokens can come of; ``what`` they are called.

    Raises:
        CompositionError: for one that would weigh or divide what the base model gives.
    """
    if not isinstance(program, Step | Chain | Routed | ByTask):
        raise CompositionError(
            f"{what} of adapters {program.names()} cannot be fused, averaged or split by position: they are read "
            "together, as tokens are. Stack them, or give rows their own"
        )
    for child in program.inner():
        check(child, what)


def extra_of(kind: type[E], program: Program | None, state: Tensor, call: Call) -> E | None:
    """The extra tokens of every row of ``state`` ``[batch, seq, ...]``."""
    match program:
        case Step():
            extra = kind.of(program.acting(call), state)
            used = program.used(state.shape[0], call)
            return extra if used is None else replace(extra, present=extra.which() & used.to(extra.device).unsqueeze(1))
        case Chain():
            return _joined(kind, [extra_of(kind, child, state, call) for child in program.children])
        case Routed():
            given = [(child, own, around[1]) for child, own, around in program.own(state, (), call)]
            sizes = [len(own) for _, own, _ in given]
            stacked = _stacked(kind, [extra_of(kind, *one) for one in given], sizes)
            if stacked is None or (program.division(call).back is None and call.channels == 1):
                return stacked
            numbers = torch.arange(sum(sizes), device=state.device).split(sizes)
            return stacked.rows(program.joined(numbers, call))
        case ByTask():
            by_task = list(program.own(state, call))
            rows = [own for _, own, _ in by_task]
            found = [extra_of(kind, child, state[own], own_call) for child, own, own_call in by_task]
            stacked = _stacked(kind, found, [len(own) for own in rows])
            return None if stacked is None else stacked.rows(torch.cat(rows).argsort())
        case _:
            return None


def _joined(kind: type[E], found: Sequence[E | None]) -> E | None:
    """One after another, for the same rows."""
    known = kind.in_turn([extra for extra in found if extra is not None])
    if len(known) < 2:
        return known[0] if known else None
    told = any(extra.present is not None for extra in known)
    return kind.together(known, True, torch.cat([extra.which() for extra in known], dim=1) if told else None)


def _stacked(kind: type[E], found: Sequence[E | None], sizes: Sequence[int]) -> E | None:
    """Those of groups of rows as one for all rows, filled up in front to the length of the longest."""
    longest: E | None = None
    for extra in found:
        if extra is not None and (longest is None or extra.shape[1] > longest.shape[1]):
            longest = extra
    if longest is None:
        return None
    filled = [
        longest.nothing(size) if extra is None else extra.filled(longest.shape[1] - extra.shape[1])
        for extra, size in zip(found, sizes, strict=True)
    ]
    alike = all(extra.present is None for extra in filled)
    return kind.together(filled, False, None if alike else torch.cat([extra.which() for extra in filled]))


def padded(present: Tensor, missing: int) -> Tensor:
    """``present`` with tokens in front that no row has."""
    return F.pad(present, (missing, 0), value=False)
