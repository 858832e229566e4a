"""The span of a text that answers a question about it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import QuestionAnsweringModelOutput, Seq2SeqQuestionAnsweringModelOutput
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, FeatureHead, HeadContext, LabelledConfig, Mlp, register_head


@dataclass(frozen=True)
class QuestionAnsweringConfig(LabelledConfig):
    """``layers`` linear maps over the vector of every token; the two labels are start and end of the span."""

    layers: int = 1
    activation_function: str | None = "tanh"
    dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_labels != 2:
            raise HeadError(
                f"a question-answering head has two labels, start and end; got num_labels={self.num_labels}"
            )


@register_head("question_answering")
class QuestionAnsweringHead(FeatureHead):
    """Mean cross-entropy of ``start_positions`` and ``end_positions``, ``[batch]`` each.

    Positions beyond the end of the input are left out.
    """

    config_class = QuestionAnsweringConfig
    full_precision = True
    arguments = ("start_positions", "end_positions")
    config: QuestionAnsweringConfig

    def __init__(self, config: QuestionAnsweringConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.layers = Mlp(base, 2, config.layers, config.activation_function, config.dropout)
        self.output = Seq2SeqQuestionAnsweringModelOutput if base.is_encoder_decoder else QuestionAnsweringModelOutput

    def features(self, context: HeadContext) -> Tensor:
        """The vector of every token: ``[batch, seq, hidden]``."""
        return context.hidden

    def answer(self, context: HeadContext, scores: Tensor) -> ModelOutput:
        """``start_logits`` and ``end_logits``: ``[batch, seq]`` each."""
        start, end = scores.unbind(-1)
        loss = None
        if all(name in context.targets for name in self.arguments):
            first, last = (context.targets[name] for name in self.arguments)
            loss = (_span_loss(start, first) + _span_loss(end, last)) / 2
        return context.answer(self.output, loss=loss, start_logits=start, end_logits=end)


def _span_loss(logits: Tensor, positions: Tensor) -> Tensor:
    outside = logits.shape[1]
    return F.cross_entropy(logits, positions.view(-1).clamp(0, outside), ignore_index=outside)
