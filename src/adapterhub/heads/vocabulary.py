"""From hidden states to scores for every token of the vocabulary: what the language-modelling heads share."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.errors import HeadError
from adapterhub.heads.base import (
    Activation,
    BaseInfo,
    Head,
    HeadConfig,
    HeadContext,
    check_layers,
    linear,
    word_embeddings,
)


@dataclass(frozen=True)
class VocabularyConfig(HeadConfig):
    """The last of ``layers`` is the base model's own embedding matrix; the others come before it.

    Each of the others is a linear map, ``activation_function`` and, with ``layer_norm``, a layer norm.
    ``bias`` adds a number for every token.
    """

    layers: int = 1
    activation_function: str | None = None
    layer_norm: bool = False
    bias: bool = False


class VocabularyHead(Head):
    """Scores by the base model's input embeddings, which are read at each call and no part of the head."""

    full_precision = True
    config: VocabularyConfig

    def __init__(self, config: VocabularyConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        if base.vocab_size is None or base.embedding_width is None:
            raise HeadError("a language-modelling head needs a base model with word embeddings")
        check_layers(config.layers)
        self.scale, self.cap = base.output_scale, base.output_cap
        widths = [base.width] + [base.embedding_width] * (config.layers - 1)
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts.append(linear(base, inputs, outputs))
            if config.activation_function:
                parts.append(Activation(config.activation_function))
            if config.layer_norm:
                parts.append(nn.LayerNorm(outputs, eps=base.layer_norm_eps))
        if config.layers == 1 and base.width != base.embedding_width:
            parts.append(linear(base, base.width, base.embedding_width))
        self.layers = nn.Sequential(*parts)
        self.bias = nn.Parameter(torch.zeros(base.vocab_size)) if config.bias else None

    def scores(self, hidden: Tensor, context: HeadContext) -> Tensor:
        """``[batch, seq, hidden]`` to ``[batch, seq, vocabulary]``."""
        embeddings = word_embeddings(context.base)
        if embeddings is None:
            raise HeadError(f"{type(context.base).__name__} has no word embeddings to score tokens with")
        if len(self.layers):
            hidden = self.layers(hidden.to(next(self.layers.parameters()).dtype))
        weight = embeddings.weight
        bias = None if self.bias is None else self.bias.to(weight.dtype)
        hidden = context.in_own_space(hidden * self.scale)
        scores = F.linear(hidden.to(weight.dtype), weight, bias)
        return scores if self.cap is None else torch.tanh(scores / self.cap) * self.cap

    @property
    def scores_tokens(self) -> bool:
        """It does."""
        return True

    def resize_vocabulary(self, size: int) -> None:
        """Keep the bias of the tokens that stay; new ones get 0."""
        if self.bias is not None and len(self.bias) != size:
            self.bias = nn.Parameter(F.pad(self.bias.data, (0, size - self.bias.shape[0])), self.bias.requires_grad)


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in full precision over all tokens whose label is not -100."""
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten().to(logits.device))


def shift_right(base: PreTrainedModel, ids: Tensor) -> Tensor:
    """What the decoder of ``base`` reads while it learns to write ``ids``: the same, after a start token.

    Models differ in how they start; each is asked for its own way.

    Raises:
        HeadError: if a model does not know one.
    """
    for name in ("prepare_decoder_input_ids_from_labels", "_shift_right"):
        if own := getattr(base, name, None):
            return own(ids)
    start: tuple[Any, ...] = (base.config.pad_token_id, base.config.decoder_start_token_id)
    for kind in type(base).__mro__:
        if shift := getattr(sys.modules[kind.__module__], "shift_tokens_right", None):
            return shift(ids, *start[: len(inspect.signature(shift).parameters) - 1])
    raise HeadError(f"{type(base).__name__} needs decoder_input_ids: it is not known how its decoder starts")


def with_decoder_inputs(base: PreTrainedModel, inputs: dict[str, Any], ids: Tensor | None) -> dict[str, Any]:
    """``inputs``, and ``ids`` moved right for the decoder, unless it has something to read already."""
    given: Mapping[str, Any] = inputs
    if ids is None or any(given.get(f"decoder_{name}") is not None for name in ("input_ids", "inputs_embeds")):
        return inputs
    return inputs | {"decoder_input_ids": shift_right(base, ids)}
