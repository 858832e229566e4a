"""Predicting with a model, fast: for every kind of head that answers for texts, batch by batch, in the order given.

``Predictor`` does it; the other names are options for the kinds of heads.
"""

from adapterhub.inference.classifying import Classification, Embedding, MultiLabel, MultipleChoice
from adapterhub.inference.masked_lm import MaskedLM
from adapterhub.inference.predictor import Predictor
from adapterhub.inference.question_answering import QuestionAnswering
from adapterhub.inference.tagging import Tagging
from adapterhub.inference.tasks import Task

__all__ = [
    "Classification",
    "Embedding",
    "MaskedLM",
    "MultiLabel",
    "MultipleChoice",
    "Predictor",
    "QuestionAnswering",
    "Tagging",
    "Task",
]
