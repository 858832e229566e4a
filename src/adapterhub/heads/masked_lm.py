"""The tokens that stood where the text was masked."""

from dataclasses import dataclass

from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import ModelOutput

from adapterhub.heads.base import HeadContext, register_head
from adapterhub.heads.vocabulary import VocabularyConfig, VocabularyHead, token_loss


@dataclass(frozen=True)
class MaskedLMConfig(VocabularyConfig):
    """As in BERT: linear map, activation, layer norm, then the embedding matrix and a bias."""

    layers: int = 2
    activation_function: str | None = "gelu"
    layer_norm: bool = True
    bias: bool = True


@register_head("masked_lm")
class MaskedLMHead(VocabularyHead):
    """Cross-entropy over ``labels [batch, seq]``, in which -100 marks tokens that are not to be predicted."""

    config_class = MaskedLMConfig

    def forward(self, context: HeadContext) -> ModelOutput:
        """``logits``: ``[batch, seq, vocabulary]``."""
        logits = self.scores(context.hidden, context)
        loss = None if context.labels is None else token_loss(logits, context.labels)
        return context.answer(MaskedLMOutput, loss=loss, logits=logits)
