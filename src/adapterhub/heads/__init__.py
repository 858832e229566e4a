"""Prediction heads over any base model."""

from adapterhub.heads.base import (
    BaseInfo,
    Head,
    HeadConfig,
    HeadContext,
    LabelledConfig,
    build_head,
    register_head,
    registered_heads,
)
from adapterhub.heads.causal_lm import CausalLMConfig, CausalLMHead
from adapterhub.heads.classification import ClassificationConfig, ClassificationHead
from adapterhub.heads.image_classification import ImageClassificationConfig, ImageClassificationHead
from adapterhub.heads.masked_lm import MaskedLMConfig, MaskedLMHead
from adapterhub.heads.mixin import FlexibleHeadsMixin, MultiHeadOutput, head_signature
from adapterhub.heads.multi_label import MultiLabelHead
from adapterhub.heads.multiple_choice import MultipleChoiceConfig, MultipleChoiceHead
from adapterhub.heads.question_answering import QuestionAnsweringConfig, QuestionAnsweringHead
from adapterhub.heads.sentence_embedding import (
    SentenceEmbeddingConfig,
    SentenceEmbeddingHead,
    SentenceEmbeddingOutput,
)
from adapterhub.heads.seq2seq_lm import Seq2SeqLMConfig, Seq2SeqLMHead
from adapterhub.heads.static import StaticConfig, StaticHead, base_of
from adapterhub.heads.tagging import TaggingConfig, TaggingHead

__all__ = [
    "BaseInfo",
    "CausalLMConfig",
    "CausalLMHead",
    "ClassificationConfig",
    "ClassificationHead",
    "FlexibleHeadsMixin",
    "Head",
    "HeadConfig",
    "HeadContext",
    "ImageClassificationConfig",
    "ImageClassificationHead",
    "LabelledConfig",
    "MaskedLMConfig",
    "MaskedLMHead",
    "MultiHeadOutput",
    "MultiLabelHead",
    "MultipleChoiceConfig",
    "MultipleChoiceHead",
    "QuestionAnsweringConfig",
    "QuestionAnsweringHead",
    "SentenceEmbeddingConfig",
    "SentenceEmbeddingHead",
    "SentenceEmbeddingOutput",
    "Seq2SeqLMConfig",
    "Seq2SeqLMHead",
    "StaticConfig",
    "StaticHead",
    "TaggingConfig",
    "TaggingHead",
    "base_of",
    "build_head",
    "head_signature",
    "register_head",
    "registered_heads",
]
