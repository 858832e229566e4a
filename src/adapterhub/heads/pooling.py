"""From hidden states for every position to one vector for a whole input."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, FeatureHead, HeadContext, Pooling, text_config


class PooledHead(FeatureHead):
    """A head that reads one vector for each input: ``[batch, hidden]``, or that of each choice, in as many rows.

    ``config.use_pooler`` takes the one that the base model's own pooler made; None: where the base model usually does.
    """

    def __init__(self, config: Any, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.pooling = base.pooling
        self.use_pooler = base.use_pooler if config.use_pooler is None else config.use_pooler

    @property
    def reading(self) -> tuple[Any, ...]:
        return self.pooling, self.use_pooler

    def features(self, context: HeadContext) -> Tensor:
        return pool(context, self.pooling, self.use_pooler)


def pool(context: HeadContext, how: Pooling, use_pooler: bool = False) -> Tensor:
    """One vector for each input: ``[batch, hidden]``.

    ``use_pooler`` takes what the base model's own pooler made. Padding is told by the attention mask alone;
    without one, nothing is padding.

    Raises:
        HeadError: if the base model does not answer with what is asked for.
    """
    if use_pooler:
        pooled = context.outputs.get("pooler_output")
        if pooled is None:
            name = type(context.base).__name__
            raise HeadError(f"{name} has no pooler; add the head with use_pooler=False")
        return pooled.flatten(1)  # convolutional models pool to [batch, hidden, 1, 1]
    if how == "pair":
        return torch.cat((context.outputs["text_embeds"], context.outputs["image_embeds"]), dim=-1)
    if how == "first" and context.hidden.dim() == 3:
        return context.first
    hidden = context.hidden
    if hidden.dim() == 4:  # a feature map: [batch, hidden, height, width]
        hidden = hidden.flatten(2).transpose(1, 2)
    if how == "first":
        return hidden[:, 0]
    if how == "mean":
        return mean(hidden, _mask(hidden, context.base_inputs.get("attention_mask")))
    return _take(hidden, _end(context, hidden) if how == "eos" else _last(hidden, context.base_inputs))


def mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the positions that ``mask`` ``[batch, seq]`` keeps (over all, if it is None)."""
    if mask is None:
        return hidden.mean(1)
    kept = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)


def _mask(hidden: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask of the positions in ``hidden``: not all of those in ``mask``, if the first are cached."""
    if mask is None or mask.dim() != 2 or mask.shape[1] < hidden.shape[1]:
        return None
    return mask[:, -hidden.shape[1] :]


def _last(hidden: Tensor, inputs: Mapping[str, Any], prefix: str = "") -> Tensor:
    """Index of the last position that is not padding, on whichever side the padding is: ``[batch]``."""
    mask = _mask(hidden, inputs.get(f"{prefix}attention_mask"))
    return _rightmost(torch.ones_like(hidden[..., 0]) if mask is None else mask)


def _end(context: HeadContext, hidden: Tensor) -> Tensor:
    """Index of the decoder's last position whose token is ``<eos>``; of the last one that is not padding, if
    none is.

    Where the caller gave no decoder input, the decoder read the input moved right by one, and the state that
    sums it up is the one from which ``<eos>`` would be predicted: that at the place of ``<eos>`` in the
    input itself.
    """
    given, read = context.inputs, context.base_inputs
    own = given.get("decoder_input_ids") is not None or given.get("decoder_inputs_embeds") is not None
    ids = read.get("decoder_input_ids") if own else read.get("input_ids")
    last = _last(hidden, read, "decoder_" if own else "")
    if ids is None or ids.shape[1] != hidden.shape[1]:
        return last
    eos = text_config(context.base.config).eos_token_id
    is_end = torch.isin(ids, torch.tensor(eos, device=ids.device))
    is_end = is_end & (torch.arange(ids.shape[1], device=ids.device) > 0)  # BART's decoder starts with <eos>
    return torch.where(is_end.any(1), _rightmost(is_end), last)


def _rightmost(keep: Tensor) -> Tensor:
    positions = torch.arange(keep.shape[1], device=keep.device)
    return torch.where(keep.bool(), positions, 0).amax(1)


def _take(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), index.to(hidden.device)]
