"""One label, or one number, for a whole input."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput, SequenceClassifierOutput
from transformers.utils import ModelOutput

from adapterhub.heads.base import BaseInfo, HeadContext, LabelledConfig, Mlp, register_head
from adapterhub.heads.pooling import PooledHead


@dataclass(frozen=True)
class ClassificationConfig(LabelledConfig):
    """``layers`` linear maps over one vector for the input; ``dropout`` is by default the base model's.

    ``use_pooler`` takes the vector that the base model's own pooler makes, by default in BEiT alone.
    """

    layers: int = 2
    activation_function: str | None = "tanh"
    use_pooler: bool | None = None
    dropout: float | None = None
    bias: bool = True


@register_head("classification")
class ClassificationHead(PooledHead):
    """Cross-entropy over ``labels [batch]``; with ``num_labels=1`` regression by squared error."""

    config_class = ClassificationConfig
    full_precision = True
    plain_output: ClassVar[type[ModelOutput]] = SequenceClassifierOutput
    config: ClassificationConfig

    def __init__(self, config: ClassificationConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.output = Seq2SeqSequenceClassifierOutput if base.is_encoder_decoder else self.plain_output
        self.layers = Mlp(base, config.count, config.layers, config.activation_function, config.dropout, config.bias)

    def answer(self, context: HeadContext, scores: Tensor) -> ModelOutput:
        """``logits``: ``[batch, num_labels]``."""
        loss = None if context.labels is None else self.loss(scores, context.labels)
        return context.answer(self.output, loss=loss, logits=scores)

    @property
    def problem_type(self) -> str | None:
        """Regression with one label, else classification."""
        return "regression" if self.config.count == 1 else "single_label_classification"

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the batch."""
        if self.config.count == 1:
            return F.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
        return F.cross_entropy(logits, labels.view(-1))
