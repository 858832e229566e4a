"""Prefixes at an attention: those of a composition for every row of a batch, and how the attention gets them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.engine.program import ByTask, Call, Chain, Program, Routed, Step
from adapterhub.errors import CompositionError
from adapterhub.sites.attention import Given, implementation


class Prefix(NamedTuple):
    """Keys and values ``[batch, heads, prefix, width]``, and which of them a row has: ``[batch, prefix]``, or all."""

    keys: Tensor
    values: Tensor
    present: Tensor | None = None

    @property
    def length(self) -> int:
        """The number of tokens."""
        return self.keys.shape[2]

    def rows(self, rows: Tensor) -> "Prefix":
        """The prefix of some rows."""
        return Prefix(self.keys[rows], self.values[rows], None if self.present is None else self.present[rows])


def check(program: Program) -> None:
    """Pass a program that prefixes can run under.

    Raises:
        CompositionError: for one that would weigh or divide what attention gives.
    """
    if not isinstance(program, Step | Chain | Routed | ByTask):
        raise CompositionError(
            f"prefixes of adapters {program.names()} cannot be fused, averaged or split by position: they are read by "
            "one attention together. Stack them, or give rows their own"
        )
    for child in program.inner():
        check(child)


def prefix_of(program: Program | None, hidden: Tensor, call: Call) -> Prefix | None:
    """The prefix of every row of ``hidden`` ``[batch, seq, width]``, what the attention reads."""
    match program:
        case Step():
            return Prefix(*program.part(hidden))
        case Chain():
            return _joined([prefix_of(child, hidden, call) for child in program.children])
        case Routed():
            given = [(child, own, around[1]) for child, own, around in program.own(hidden, (), call)]
            sizes = [len(own) for _, own, _ in given]
            stacked = _stacked([prefix_of(*one) for one in given], sizes)
            if stacked is None or program.back is None:
                return stacked
            return stacked.rows(program.restored(torch.arange(sum(sizes), device=hidden.device)))
        case ByTask():
            rows = program.rows_by_task(hidden, call)
            found = [prefix_of(child, hidden[own], call) for child, own in zip(program.children, rows, strict=True)]
            stacked = _stacked(found, [len(own) for own in rows])
            return None if stacked is None else stacked.rows(torch.cat(rows).argsort())
        case _:
            return None


def moves(program: Program) -> bool:
    """Whether some of its prefixes move the positions of the text."""
    return any(getattr(step.part, "shift", 0) for step in program.parts())


def shift_of(program: Program | None, rows: Tensor, call: Call) -> Tensor:
    """How far the prefix of every row moves the positions of its text; ``rows`` ``[batch]`` are zeros."""
    match program:
        case Step():
            return rows + cast(int, program.part.shift)
        case Chain():
            return torch.stack([shift_of(child, rows, call) for child in program.children]).sum(0)
        case Routed():
            given = program.own(rows, (), call)
            return program.restored(torch.cat([shift_of(child, own, around[1]) for child, own, around in given]))
        case ByTask():
            own = program.rows_by_task(rows, call)
            found = [shift_of(child, rows[one], call) for child, one in zip(program.children, own, strict=True)]
            return torch.cat(found)[torch.cat(own).argsort()]
        case _:
            return rows


def extended(
    prefix: Prefix, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
) -> Given:
    """The arguments of an attention function with a prefix before the keys and values that it had."""
    length = prefix.length
    new_mask = _mask(prefix, module, query, key, mask, kwargs.get("is_causal"))
    bias = kwargs.get("position_bias")
    if isinstance(bias, Tensor):
        kwargs = kwargs | {"position_bias": F.pad(bias, (length, 0))}
    keys = torch.cat((prefix.keys.to(key.dtype), key), dim=2)
    values = torch.cat((prefix.values.to(value.dtype), value), dim=2)
    return keys, values, new_mask, kwargs


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
        present = torch.ones(1, prefix.length, dtype=torch.bool, device=mask.device)
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

    length, inner = prefix.length, mask.mask_mod
    queries, keys = mask.seq_lengths
    present = None if prefix.present is None else F.pad(prefix.present, (0, keys), value=True)

    def allowed(row: Tensor, head: Tensor, at: Tensor, to: Tensor) -> Tensor:
        seen = (to < length) | inner(row, head, at, (to - length).clamp(min=0))
        return seen if present is None else seen & present[row, to]

    return create_block_mask(
        allowed, key.shape[0], None, queries, keys + length, device=str(key.device), BLOCK_SIZE=mask.BLOCK_SIZE
    )


def _joined(found: Sequence[Prefix | None]) -> Prefix | None:
    """Prefixes one after another, for the same rows."""
    known = [prefix for prefix in found if prefix is not None]
    if len(known) < 2:
        return known[0] if known else None
    present = None
    if any(prefix.present is not None for prefix in known):
        present = torch.cat([_present(prefix) for prefix in known], dim=1)
    keys = torch.cat([prefix.keys for prefix in known], dim=2)
    return Prefix(keys, torch.cat([prefix.values for prefix in known], dim=2), present)


def _stacked(found: Sequence[Prefix | None], sizes: Sequence[int]) -> Prefix | None:
    """Prefixes of groups of rows as one for all rows, filled up in front to the length of the longest."""
    longest = None
    for prefix in found:
        if prefix is not None and (longest is None or prefix.length > longest.length):
            longest = prefix
    if longest is None:
        return None
    filled = [_filled(prefix, size, longest) for prefix, size in zip(found, sizes, strict=True)]
    present = torch.cat([_present(prefix) for prefix in filled])
    keys = torch.cat([prefix.keys for prefix in filled])
    return Prefix(keys, torch.cat([prefix.values for prefix in filled]), present)


def _filled(prefix: Prefix | None, rows: int, longest: Prefix) -> Prefix:
    if prefix is None:
        keys, values = (part[:1].new_zeros(rows, *part.shape[1:]) for part in (longest.keys, longest.values))
        return Prefix(keys, values, torch.zeros(rows, longest.length, dtype=torch.bool, device=keys.device))
    missing = longest.length - prefix.length
    keys, values = (F.pad(part, (0, 0, missing, 0)) for part in (prefix.keys, prefix.values))
    return Prefix(keys, values, F.pad(_present(prefix), (missing, 0), value=False))


def _present(prefix: Prefix) -> Tensor:
    if prefix.present is not None:
        return prefix.present
    rows, _, length, _ = prefix.keys.shape
    return torch.ones(rows, length, dtype=torch.bool, device=prefix.keys.device)
