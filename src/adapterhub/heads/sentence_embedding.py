"""One vector for a text, near to those of texts that mean the same."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, Head, HeadConfig, HeadContext, Pooling, linear, register_head
from adapterhub.heads.pooling import pool

_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "first", "last": "last"}


@dataclass
class SentenceEmbeddingOutput(ModelOutput):
    """``embeddings [batch, width]`` and, where labels were given, the contrastive ``loss``."""

    loss: Tensor | None = None
    embeddings: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class SentenceEmbeddingConfig(HeadConfig):
    """``pooling`` over the tokens, then a linear map to ``width`` if one is given, then to length 1 by
    ``normalize``.

    ``temperature`` divides the cosine similarities in the loss; 0.05 as in SimCSE (Gao et al. 2021, section
    3).
    """

    pooling: Literal["mean", "cls", "last"] = "mean"
    width: int | None = None
    normalize: bool = True
    temperature: float = 0.05

    def __post_init__(self) -> None:
        if self.pooling not in _POOLINGS:
            raise HeadError(f"unknown pooling {self.pooling!r}. Known: {', '.join(_POOLINGS)}.")
        if self.temperature <= 0:
            raise HeadError(f"the temperature must be above 0, got {self.temperature}")


@register_head("sentence_embedding")
class SentenceEmbeddingHead(Head):
    """Sentence vectors, trained by contrast: rows with equal ``labels [batch]`` get near to each other."""

    config_class = SentenceEmbeddingConfig
    full_precision = True
    config: SentenceEmbeddingConfig

    def __init__(self, config: SentenceEmbeddingConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.layers = linear(base, base.width, config.width, bias=False) if config.width else None

    def forward(self, context: HeadContext) -> ModelOutput:
        """``embeddings``: ``[batch, width]``."""
        vectors = pool(context, _POOLINGS[self.config.pooling])
        if self.layers is not None:
            vectors = self.layers(vectors.to(self.layers.weight.dtype))
        loss = None
        if context.labels is not None:
            loss = contrastive_loss(vectors, context.labels, self.config.temperature)
        if self.config.normalize:
            vectors = F.normalize(vectors, dim=-1)
        return context.answer(SentenceEmbeddingOutput, loss=loss, embeddings=vectors)


def contrastive_loss(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss over a batch (Khosla et al. 2020, arXiv:2004.11362, equation 2).

    Where each label occurs twice it is the NT-Xent loss of SimCLR (Chen et al. 2020, arXiv:2002.05709,
    equation 1). Rows that no other row shares a label with are contrasted with, but have no term of their
    own.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    log_probability = similarity - similarity.logsumexp(1, keepdim=True)
    positive = (labels.view(-1, 1) == labels.view(1, -1)) & ~itself
    count = positive.sum(1)
    each = -log_probability.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
