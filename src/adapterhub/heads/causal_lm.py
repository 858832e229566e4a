"""The next token."""

from dataclasses import dataclass

import torch.nn.functional as F
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions
from transformers.utils import ModelOutput

from adapterhub.heads.base import HeadContext, register_head
from adapterhub.heads.vocabulary import VocabularyConfig, VocabularyHead, token_loss


@dataclass(frozen=True)
class CausalLMConfig(VocabularyConfig):
    """A linear map, activation and layer norm, then the embedding matrix and a bias.

    ``layers=1, bias=False`` is the embedding matrix alone, as in GPT-2.
    """

    layers: int = 2
    activation_function: str | None = "gelu"
    layer_norm: bool = True
    bias: bool = True


@register_head("causal_lm")
class CausalLMHead(VocabularyHead):
    """Cross-entropy of each token given those before it; ``labels [batch, seq]`` are the input, or -100."""

    config_class = CausalLMConfig
    arguments = ("labels", "logits_to_keep")

    def forward(self, context: HeadContext) -> ModelOutput:
        """``logits``: ``[batch, seq, vocabulary]``, of the positions in ``logits_to_keep``."""
        hidden = context.hidden
        keep = context.targets.get("logits_to_keep")
        if keep is not None:
            hidden = hidden[:, slice(-keep, None) if isinstance(keep, int) else keep]
        logits = self.scores(hidden, context)
        loss = None
        if context.labels is not None:
            loss = token_loss(logits, F.pad(context.labels, (0, 1), value=-100)[:, 1:])
        return context.answer(CausalLMOutputWithCrossAttentions, loss=loss, logits=logits)
