"""What heads answer: the name of the task of each kind."""

from enum import StrEnum

from adapterhub.heads import Head
from adapterhub.inference import Classification, Embedding, MaskedLM, MultiLabel, QuestionAnswering, Tagging
from adapterhub.inference import Task as How
from adapterhub.inference.tasks import task_of
from adapterhub.serving.errors import WrongHeadError


class Task(StrEnum):
    """What an answer is."""

    classification = "classification"
    multi_label = "multi-label-classification"
    regression = "regression"
    tagging = "tagging"
    question_answering = "question-answering"
    embedding = "embedding"
    fill_mask = "fill-mask"


_NAMES: dict[type[How], Task] = {
    Classification: Task.classification,
    MultiLabel: Task.multi_label,
    Tagging: Task.tagging,
    QuestionAnswering: Task.question_answering,
    Embedding: Task.embedding,
    MaskedLM: Task.fill_mask,
}


def name_of(head: Head) -> Task:
    """What a head answers.

    Raises:
        HeadError: if it is of a kind that answers nothing by itself.
        WrongHeadError: if it answers something that is not served.
    """
    task = _NAMES.get(kind := task_of(head))
    if task is None:
        raise WrongHeadError(f"heads for {kind.__name__} are not served")
    return Task.regression if task is Task.classification and head.problem_type == "regression" else task
