"""The relative position bias of T5 (Raffel et al. 2020, section 2.1) and its like where it counts prefixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.engine.program import Program
from adapterhub.errors import CompositionError
from adapterhub.sites import Sublayer


@dataclass(frozen=True)
class RelativeBias:
    """The attention whose bias is that of its tower, and how many tokens of the text are before the first query."""

    attention: Any
    before: int | Tensor

    def with_prefix(self, counted: Tensor, queries: int, keys: int) -> Tensor:
        """The bias for the keys of prefixes, and those of the text after them.

        Args:
            counted: which tokens of prefixes have positions, ``[batch, prefix]``; the text's begin after theirs, while
                queries are counted without them. The bias of others is 0.
            queries: how many there are.
            keys: how many there are without prefixes.

        Returns:
            ``[batch, heads, queries, prefix + keys]``.
        """
        device = counted.device
        text = torch.arange(keys, device=device) + counted.sum(1, keepdim=True)
        positions = torch.cat((counted.cumsum(1) - 1, text), dim=1).unsqueeze(1)
        distances = positions - (torch.arange(queries, device=device) + self.before).unsqueeze(1)
        farthest = positions.shape[-1]
        known = self.attention.compute_bias(1, 2 * farthest + 1, device=device, past_seen_tokens=farthest)[0, :, 0]
        bias = known.to(device)[:, distances + farthest].transpose(0, 1)
        return bias.masked_fill(F.pad(~counted, (0, keys))[:, None, None], 0)


def tokens_before(attention: nn.Module, kwargs: Mapping[str, Any]) -> int | Tensor:
    """How many tokens of the text the cache holds that an attention is called with."""
    cache = kwargs.get("past_key_values")
    if cache is None:
        return 0
    before: int | Tensor = cache.get_seq_length(attention.layer_idx)
    return before.clone() if isinstance(before, Tensor) else before  # a static cache counts on in the same tensor


def check(program: Program, sublayer: Sublayer, model_class: str) -> None:
    """Pass prefixes that a model's position bias can count.

    Raises:
        CompositionError: for those that it is to count where it has none between tokens.
    """
    names = {step.adapter: None for step in program.parts() if getattr(step.part, "in_position_bias", False)}
    if names and (sublayer.attention is None or sublayer.attention.bias_at is None):
        raise CompositionError(
            f"adapters {', '.join(names)} have prefixes with prefix_in_position_bias, and {sublayer.name} of "
            f"{model_class} has no relative position bias as T5 has. Train a prefix without it."
        )
