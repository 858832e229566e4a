"""One label for every token."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils import ModelOutput

from adapterhub.heads.base import BaseInfo, FeatureHead, HeadContext, LabelledConfig, Mlp, register_head


@dataclass(frozen=True)
class TaggingConfig(LabelledConfig):
    """``layers`` linear maps over the vector of every token."""

    layers: int = 1
    activation_function: str | None = "tanh"
    dropout: float | None = None


@register_head("tagging")
class TaggingHead(FeatureHead):
    """Cross-entropy over ``labels [batch, seq]``, leaving out padding, and tokens with the label -100.

    In an encoder-decoder model the tokens are those of the decoder, which reads the input if it is given
    none.
    """

    config_class = TaggingConfig
    full_precision = True
    config: TaggingConfig

    def __init__(self, config: TaggingConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.layers = Mlp(base, config.count, config.layers, config.activation_function, config.dropout)

    def features(self, context: HeadContext) -> Tensor:
        """The vector of every token: ``[batch, seq, hidden]``."""
        return context.hidden

    def answer(self, context: HeadContext, scores: Tensor) -> ModelOutput:
        """``logits``: ``[batch, seq, num_labels]``."""
        loss = None
        if context.labels is not None:
            loss = F.cross_entropy(scores.flatten(0, 1), _without_padding(context, context.labels).flatten())
        return context.answer(TokenClassifierOutput, loss=loss, logits=scores)


def _without_padding(context: HeadContext, labels: Tensor) -> Tensor:
    """``labels`` with -100 wherever the attention mask (the decoder's, if it has one of its own) is 0."""
    own = context.base_inputs.get("decoder_attention_mask")
    mask = context.base_inputs.get("attention_mask") if own is None else own
    return labels if mask is None or mask.shape != labels.shape else labels.masked_fill(mask == 0, -100)
