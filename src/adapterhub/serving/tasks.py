"""What heads answer: the task of each kind."""

from enum import StrEnum

from adapterhub.heads import Head, StaticHead
from adapterhub.heads.base import LabelledConfig


class Task(StrEnum):
    """What an answer is."""

    classification = "classification"
    multi_label = "multi-label-classification"
    regression = "regression"
    tagging = "tagging"
    question_answering = "question-answering"
    embedding = "embedding"
    fill_mask = "fill-mask"


_TASKS = {
    "classification": Task.classification,
    "multilabel_classification": Task.multi_label,
    "tagging": Task.tagging,
    "question_answering": Task.question_answering,
    "sentence_embedding": Task.embedding,
    "masked_lm": Task.fill_mask,
}
_CLASSES = {
    "ForSequenceClassification": Task.classification,
    "ForTokenClassification": Task.tagging,
    "ForQuestionAnswering": Task.question_answering,
    "ForMaskedLM": Task.fill_mask,
}


def task_of(head: Head) -> Task | None:
    """What a head answers; None for one that answers nothing of these."""
    if isinstance(head, StaticHead):
        name = head.config.architecture
        task = next((task for ending, task in _CLASSES.items() if name.endswith(ending)), None)
    else:
        task = _TASKS.get(head.head_type)
    if task is not Task.classification:
        return task
    if head.problem_type == "multi_label_classification":
        return Task.multi_label
    return Task.regression if _count(head) == 1 else task


def _count(head: Head) -> int:
    return head.config.count if isinstance(head.config, LabelledConfig) else len(head.labels or ())
