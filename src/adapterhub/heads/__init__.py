"""Prediction heads over any base model. Importing this package registers every head that it has."""

from adapterhub.heads import (
    causal_lm,
    classification,
    dependency_parsing,
    image_classification,
    masked_lm,
    multi_label,
    multiple_choice,
    question_answering,
    sentence_embedding,
    seq2seq_lm,
    tagging,
)
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
from adapterhub.heads.custom import PredictionHead
from adapterhub.heads.dependency_parsing import DependencyParsingOutput
from adapterhub.heads.mixin import FlexibleHeadsMixin, MultiHeadOutput, head_signature
from adapterhub.heads.static import StaticHead, base_of

__all__ = [
    "BaseInfo",
    "DependencyParsingOutput",
    "FlexibleHeadsMixin",
    "Head",
    "HeadConfig",
    "HeadContext",
    "LabelledConfig",
    "MultiHeadOutput",
    "PredictionHead",
    "StaticHead",
    "base_of",
    "build_head",
    "causal_lm",
    "classification",
    "dependency_parsing",
    "head_signature",
    "image_classification",
    "masked_lm",
    "multi_label",
    "multiple_choice",
    "question_answering",
    "register_head",
    "registered_heads",
    "sentence_embedding",
    "seq2seq_lm",
    "tagging",
]
