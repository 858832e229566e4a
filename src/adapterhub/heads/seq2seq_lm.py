"""A text in answer to a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, HeadContext, register_head
from adapterhub.heads.vocabulary import VocabularyConfig, VocabularyHead, token_loss, with_decoder_inputs


@dataclass(frozen=True)
class Seq2SeqLMConfig(VocabularyConfig):
    """The embedding matrix alone, as in T5 and BART."""


@register_head("seq2seq_lm")
class Seq2SeqLMHead(VocabularyHead):
    """Cross-entropy over ``labels [batch, target seq]``, the text to be written, -100 to leave out.

    The decoder reads the labels moved right by one, unless ``decoder_input_ids`` are given.
    """

    config_class = Seq2SeqLMConfig

    def __init__(self, config: Seq2SeqLMConfig, base: BaseInfo) -> None:
        if not base.is_encoder_decoder:
            raise HeadError("a sequence-to-sequence head needs an encoder-decoder model; use a causal_lm head")
        super().__init__(config, base)

    def prepare(self, base: PreTrainedModel, inputs: dict[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """Without decoder input, the labels are what the decoder reads."""
        return with_decoder_inputs(base, inputs, targets.get("labels"))

    def forward(self, context: HeadContext) -> ModelOutput:
        """``logits``: ``[batch, target seq, vocabulary]``."""
        logits = self.scores(context.hidden, context)
        loss = None if context.labels is None else token_loss(logits, context.labels)
        return context.answer(Seq2SeqLMOutput, loss=loss, logits=logits)
