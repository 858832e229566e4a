"""Prompts among the tokens of a text: how the inputs of a model grow by them, and what it gives is cut again.

A row comes out as if its text had been longer by its prompt: padding on the left stays on the left. Where rows have
prompts of unlike lengths, padding makes up for it: on the left in a decoder that is told its positions, where a cache
goes on at the right, and on the right elsewhere, where the first position has a meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.engine import extra
from adapterhub.engine.divided import ByTask, Routed
from adapterhub.engine.extra import Extra, padded
from adapterhub.engine.program import Chain, Program, Step
from adapterhub.errors import CompositionError


@dataclass(frozen=True)
class Prompts(Extra):
    """Vectors ``[batch, prompt, width]``.

    ``after_bos`` ``[batch, prompt]`` says which of them come after the first token, ``as_tokens`` which come in where
    tokens are embedded; the others come in where positions are too.
    """

    vectors: Tensor
    after_bos: Tensor
    as_tokens: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.vectors.shape[0], self.vectors.shape[1]

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    @classmethod
    def of(cls, part: nn.Module, state: Tensor) -> Self:
        made: Any = part
        vectors: Tensor = made().to(state.device)
        rows = state.shape[0]
        shares = vectors if vectors.dim() == 3 else vectors.unsqueeze(0)  # several prompts are for equal shares
        vectors = shares.expand(rows, -1, -1) if len(shares) == 1 else shares.repeat_interleave(rows // len(shares), 0)
        flags = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        return cls(None, vectors, flags & made.after_bos, flags & made.as_tokens)

    def rows(self, rows: Tensor) -> Self:
        present = None if self.present is None else self.present[rows]
        return type(self)(present, self.vectors[rows], self.after_bos[rows], self.as_tokens[rows])

    def filled(self, missing: int) -> Self:
        if not missing:
            return self
        flags = (padded(flag, missing) for flag in (self.which(), self.after_bos, self.as_tokens))
        present, after_bos, as_tokens = flags
        return type(self)(present, F.pad(self.vectors, (0, 0, missing, 0)), after_bos, as_tokens)

    def nothing(self, rows: int) -> Self:
        none = torch.zeros(rows, self.shape[1], dtype=torch.bool, device=self.device)
        return type(self)(none, self.vectors.new_zeros(rows, *self.vectors.shape[1:]), none, none)

    @classmethod
    def together(cls, found: Sequence[Self], tokens: bool, present: Tensor | None) -> Self:
        dim = int(tokens)
        vectors = torch.cat([prompt.vectors for prompt in found], dim=dim)
        after_bos = torch.cat([prompt.after_bos for prompt in found], dim=dim)
        return cls(present, vectors, after_bos, torch.cat([prompt.as_tokens for prompt in found], dim=dim))


def check(program: Program, splits: bool) -> None:
    """Pass a program that prompts can come of; ``splits`` says whether positions are divided beside it.

    Raises:
        CompositionError: for one that would weigh or divide them, or under which they move positions by unlike lengths.
    """
    extra.check(program, "prompts")
    if splits and len(found := _lengths(program)) > 1:
        raise CompositionError(
            f"a Split counts the tokens of a text, and the prompts of adapters {program.names()} move them by unlike "
            f"lengths ({', '.join(map(str, sorted(found)))}) in one batch"
        )


def max_length(program: Program) -> int:
    """The most vectors that a row can get."""
    return max(_lengths(program))


def some_apart(program: Program) -> bool:
    """Whether some of the vectors come in where tokens are embedded already."""
    return any(not cast(Any, step.part).as_tokens for step in program.parts())


def _lengths(program: Program | None) -> frozenset[int]:
    """How many vectors rows can get."""
    match program:
        case Step():
            return frozenset({cast(Any, program.part).length})
        case Chain():
            found = frozenset({0})
            for child in program.children:
                found = frozenset(one + other for one in found for other in _lengths(child))
            return found
        case Routed() | ByTask():
            return frozenset().union(*(_lengths(child) for child in program.children))
        case _:
            return frozenset({0})


@dataclass(frozen=True)
class Layout:
    """Where vectors of prompts and tokens of the text stand, once they are together.

    ``order`` ``[batch, prompt + text]`` says which of them, prompt first, is at each position, and ``text``
    ``[batch, text]`` what position answers for each token: its own, or, in a decoder, the last one before the next
    token, which is that of a vector where these come after the first token. ``counted`` ``[batch, prompt]`` says which
    vectors take a position of their own.
    """

    prompts: Prompts
    counted: Tensor
    order: Tensor
    text: Tensor

    @classmethod
    def of(cls, prompts: Prompts, counted: Tensor, tokens: int, mask: Tensor | None, decoder: bool, left: bool) -> Self:
        """The layout for texts of so many ``tokens``, of which ``mask`` ``[batch, tokens]`` says what is padding.

        Vectors that a row has not are padding on its ``left``, or on its right.
        """
        rows, length = prompts.shape
        begin = _begin(mask, rows, prompts.device)
        # Tokens have odd numbers; a prompt has the even one before or after the first that is no padding.
        at = torch.where(prompts.after_bos, 2 * begin + 2, 2 * begin)
        if prompts.present is not None:
            at = at.where(prompts.present, -1 if left else 2 * tokens + 2)
        numbers = (2 * torch.arange(tokens, device=prompts.device) + 1).expand(rows, -1)
        order = torch.cat((at, numbers), dim=1).argsort(dim=1, stable=True)
        text = order.argsort(dim=1)[:, length:]
        if decoder:
            after = (prompts.after_bos & prompts.which()).sum(dim=1, keepdim=True)
            text = text.scatter_add(1, begin, after)
        return cls(prompts, counted, order, text)

    def grown(self, of_prompt: Tensor, of_text: Tensor) -> Tensor:
        """Values of all positions, out of those for the prompt and those for the text ``[batch, tokens, ...]``."""
        rows = self.order.shape[0]
        parts = tuple(part.expand(rows, *part.shape[1:]).to(of_text) for part in (of_prompt, of_text))
        return torch.cat(parts, dim=1)[_numbers(self.order), self.order]

    def cut(self, values: Tensor) -> Tensor:
        """Those of the text alone, of ``[batch, positions, ...]``, or of attentions ``[batch, heads, positions, ...]``.

        A batch that a layer repeated has a multiple of the rows.
        """
        at = self.text.repeat(values.shape[0] // self.text.shape[0], 1).to(values.device)
        if values.dim() == 3:
            return values[_numbers(at), at]
        return values.transpose(1, 2)[_numbers(at), at].transpose(1, 2)

    def mask(self, mask: Tensor | None) -> Tensor | None:
        """The mask for all positions; None if there is nothing to hide."""
        if mask is None and self.prompts.present is None:
            return None
        return self.grown(self.prompts.which(), torch.ones_like(self.text) if mask is None else mask)

    def words(self, mask: Tensor | None) -> Tensor:
        """1 for tokens of the text, 0 for padding and for prompts: ``[batch, positions]``."""
        none = torch.zeros_like(self.counted)
        return self.grown(none, torch.ones_like(self.text) if mask is None else mask.long())

    def positions(self, own: Tensor, mask: Tensor | None) -> Tensor:
        """The positions of all, given those that the text has by itself: ``[batch or 1, tokens]``."""
        rows, _ = self.prompts.shape
        own = own.expand(rows, -1)
        start = own.gather(1, _begin(mask, rows, own.device))
        counted = self.grown(self.counted, torch.zeros_like(own))
        return self.grown(start + (self.prompts.after_bos & self.counted), own) + counted.cumsum(dim=1) - counted

    def inserted(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``[batch, positions, width]`` with those vectors in it that are not like tokens."""
        apart = (~self.prompts.as_tokens & self.prompts.which()).unsqueeze(-1)
        text = hidden.new_zeros(1, self.text.shape[1], hidden.shape[2])
        times = hidden.shape[0] // self.order.shape[0]
        vectors = self.grown(self.prompts.vectors, text).repeat(times, 1, 1)
        return torch.where(self.grown(apart, text[..., :1].bool()).repeat(times, 1, 1), vectors, hidden)


def _begin(mask: Tensor | None, rows: int, device: torch.device) -> Tensor:
    """The first token of each row that is no padding, ``[batch, 1]``."""
    if mask is None:
        return torch.zeros(rows, 1, dtype=torch.long, device=device)
    return mask.to(device).bool().long().argmax(dim=1, keepdim=True).expand(rows, 1)


def _numbers(like: Tensor) -> Tensor:
    return torch.arange(like.shape[0], device=like.device).unsqueeze(1)
