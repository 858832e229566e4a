"""Prefixes at an attention: those of a composition for every row of a batch, and how the attention gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.engine.divided import ByTask, Routed
from adapterhub.engine.extra import Extra, padded
from adapterhub.engine.position_bias import RelativeBias
from adapterhub.engine.program import Call, Chain, Program, Step
from adapterhub.sites.attention import Given, implementation


@dataclass(frozen=True)
class Prefix(Extra):
    """Keys and values ``[batch, heads, prefix, width]``.

    ``in_bias`` says which tokens the relative position bias counts: all, none, or those of ``[batch, prefix]``.
    """

    keys: Tensor
    values: Tensor
    in_bias: bool | Tensor = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.keys.shape[0], self.keys.shape[2]

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @classmethod
    def of(cls, part: nn.Module, state: Tensor) -> Self:
        keys, values = part(state)
        return cls(None, keys, values, cast(bool, part.in_position_bias))

    def rows(self, rows: Tensor) -> Self:
        in_bias = self.in_bias if isinstance(self.in_bias, bool) else self.in_bias[rows]
        present = None if self.present is None else self.present[rows]
        return type(self)(present, self.keys[rows], self.values[rows], in_bias)

    def filled(self, missing: int) -> Self:
        if not missing:
            return self
        keys, values = (F.pad(part, (0, 0, missing, 0)) for part in (self.keys, self.values))
        in_bias = self.in_bias if isinstance(self.in_bias, bool) else padded(self.in_bias, missing)
        return type(self)(padded(self.which(), missing), keys, values, in_bias)

    def nothing(self, rows: int) -> Self:
        keys, values = (part[:1].new_zeros(rows, *part.shape[1:]) for part in (self.keys, self.values))
        return type(self)(torch.zeros(rows, self.shape[1], dtype=torch.bool, device=self.device), keys, values)

    @classmethod
    def in_turn(cls, found: Sequence[Self]) -> Sequence[Self]:
        return found[::-1]  # each adapter puts its own before what is there; distances alone tell

    @classmethod
    def together(cls, found: Sequence[Self], tokens: bool, present: Tensor | None) -> Self:
        dim = 2 if tokens else 0
        keys = torch.cat([prefix.keys for prefix in found], dim=dim)
        values = torch.cat([prefix.values for prefix in found], dim=dim)
        in_bias = found[0].in_bias
        if not isinstance(in_bias, bool) or any(prefix.in_bias is not in_bias for prefix in found):
            in_bias = torch.cat([prefix.counted() for prefix in found], dim=1 if tokens else 0)
        return cls(present, keys, values, in_bias)

    def counted(self) -> Tensor:
        """Which tokens of which rows the relative position bias counts, ``[batch, prefix]``."""
        return self.which() & self.in_bias


def moves(program: Program) -> bool:
    """Whether some of its prefixes move the positions of the text."""
    return any(getattr(step.part, "shift", 0) for step in program.parts())


def shift_of(program: Program | None, rows: Tensor, call: Call) -> Tensor:
    """How far the prefix of every row moves the positions of its text; ``rows`` ``[batch]`` are zeros."""
    match program:
        case Step():
            used = program.used(rows.shape[0], call)  # a length would be fixed in an exported program
            return rows + cast(int, program.part.shift) * (1 if used is None else used.to(rows))
        case Chain():
            return torch.stack([shift_of(child, rows, call) for child in program.children]).sum(0)
        case Routed():
            given = program.own(rows, (), call)
            return program.joined([shift_of(child, own, around[1]) for child, own, around in given], call)
        case ByTask():
            by_task = list(program.own(rows, call))
            found = [shift_of(child, rows[own], own_call) for child, own, own_call in by_task]
            return torch.cat(found)[torch.cat([own for _, own, _ in by_task]).argsort()]
        case _:
            return rows


def extended(
    prefix: Prefix,
    relative: RelativeBias | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    kwargs: dict[str, Any],
) -> Given:
    """The arguments of an attention function with a prefix before the keys and values that it had."""
    new_mask = _mask(prefix, module, query, key, mask, kwargs.get("is_causal"))
    bias = kwargs.get("position_bias")
    if isinstance(bias, Tensor):
        kwargs = kwargs | {"position_bias": _bias(prefix, relative, bias)}
    keys = torch.cat((prefix.keys.to(key.dtype), key), dim=2)
    values = torch.cat((prefix.values.to(value.dtype), value), dim=2)
    return keys, values, new_mask, kwargs


def _bias(prefix: Prefix, relative: RelativeBias | None, bias: Tensor) -> Tensor:
    """The position bias with that of the prefix, 0 where it is not counted."""
    if relative is None or prefix.in_bias is False:
        return F.pad(bias, (prefix.shape[1], 0))
    alike = prefix.in_bias is True and prefix.present is None
    counted = prefix.counted()
    return relative.with_prefix(counted[:1] if alike else counted, bias.shape[2], bias.shape[3]).to(bias)


def _mask(prefix: Prefix, module: nn.Module, query: Tensor, key: Tensor, mask: Any, is_causal: bool | None) -> Any:
    kind = implementation(module)
    if mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if kind == "eager" or "flash" in kind or not causal or query.shape[2] == 1:
            if prefix.present is None:
                return None
            mask = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
        else:  # it would be inferred from lengths that agree, and they do no longer
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device).tril()[None, None]
        if kind == "eager":
            mask = torch.zeros(mask.shape, dtype=query.dtype, device=key.device)
    if not isinstance(mask, Tensor):
        return _block_mask(prefix, key, mask)
    present = prefix.present
    if present is None:
        present = torch.ones(1, prefix.shape[1], dtype=torch.bool, device=mask.device)
    if mask.dim() == 2:
        return torch.cat((present.to(mask.dtype).expand(mask.shape[0], -1), mask), dim=-1)
    rows = max(mask.shape[0], present.shape[0])
    if mask.dtype != torch.bool:
        blocked = torch.finfo(mask.dtype).min
        present = torch.zeros(present.shape, dtype=mask.dtype, device=mask.device).masked_fill(~present, blocked)
    mask = mask.expand(rows, -1, -1, -1)
    left = present[:, None, None].expand(rows, mask.shape[1], mask.shape[2], -1)
    return torch.cat((left, mask), dim=-1)


def _block_mask(prefix: Prefix, key: Tensor, mask: Any) -> Any:
    """A mask of flex attention, moved by the length of the prefix."""
    from torch.nn.attention.flex_attention import create_block_mask

    length, inner = prefix.shape[1], mask.mask_mod
    queries, keys = mask.seq_lengths
    present = None if prefix.present is None else F.pad(prefix.present, (0, keys), value=True)

    def allowed(row: Tensor, head: Tensor, at: Tensor, to: Tensor) -> Tensor:
        seen = (to < length) | inner(row, head, at, (to - length).clamp(min=0))
        return seen if present is None else seen & present[row, to]

    return create_block_mask(
        allowed, key.shape[0], None, queries, keys + length, device=str(key.device), BLOCK_SIZE=mask.BLOCK_SIZE
    )
