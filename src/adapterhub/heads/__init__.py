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
from adapterhub.heads.causal_lm import CausalLMHead
from adapterhub.heads.classification import ClassificationHead
from adapterhub.heads.custom import PredictionHead
from adapterhub.heads.dependency_parsing import DependencyParsingHead, DependencyParsingOutput
from adapterhub.heads.image_classification import ImageClassificationHead
from adapterhub.heads.masked_lm import MaskedLMHead
from adapterhub.heads.mixin import FlexibleHeadsMixin, MultiHeadOutput, head_signature
from adapterhub.heads.multi_label import MultiLabelHead
from adapterhub.heads.multiple_choice import MultipleChoiceHead
from adapterhub.heads.question_answering import QuestionAnsweringHead
from adapterhub.heads.sentence_embedding import SentenceEmbeddingHead
from adapterhub.heads.seq2seq_lm import Seq2SeqLMHead
from adapterhub.heads.static import StaticHead, base_of
from adapterhub.heads.tagging import TaggingHead

__all__ = [
    "BaseInfo",
    "CausalLMHead",
    "ClassificationHead",
    "DependencyParsingHead",
    "DependencyParsingOutput",
    "FlexibleHeadsMixin",
    "Head",
    "HeadConfig",
    "HeadContext",
    "ImageClassificationHead",
    "LabelledConfig",
    "MaskedLMHead",
    "MultiHeadOutput",
    "MultiLabelHead",
    "MultipleChoiceHead",
    "PredictionHead",
    "QuestionAnsweringHead",
    "SentenceEmbeddingHead",
    "Seq2SeqLMHead",
    "StaticHead",
    "TaggingHead",
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
