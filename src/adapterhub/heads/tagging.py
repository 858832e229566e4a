"""One label for every token."""

from dataclasses import dataclass

import torch.nn.functional as F
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils import ModelOutput

from adapterhub.heads.base import BaseInfo, Head, HeadContext, LabelledConfig, Mlp, register_head


@dataclass(frozen=True)
class TaggingConfig(LabelledConfig):
    """``layers`` linear maps over the vector of every token."""

    layers: int = 1
    activation_function: str | None = "tanh"
    dropout: float | None = None


@register_head("tagging")
class TaggingHead(Head):
    """Cross-entropy over ``labels [batch, seq]``, in which -100 marks tokens without a label.

    In an encoder-decoder model the tokens are those of the decoder, which reads the input if it is given
    none.
    """

    config_class = TaggingConfig
    full_precision = True
    config: TaggingConfig

    def __init__(self, config: TaggingConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.layers = Mlp(base, config.count, config.layers, config.activation_function, config.dropout)

    def forward(self, context: HeadContext) -> ModelOutput:
        """``logits``: ``[batch, seq, num_labels]``."""
        logits = self.layers(context.hidden)
        loss = None
        if context.labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), context.labels.flatten())
        return context.answer(TokenClassifierOutput, loss=loss, logits=logits)
