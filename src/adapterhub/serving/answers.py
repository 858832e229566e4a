"""What people read, out of what ``adapterhub.inference`` reads of a head's outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterhub.serving.tasks import Task


@dataclass(frozen=True)
class Score:
    """A label and how likely it is."""

    label: str
    score: float


@dataclass(frozen=True)
class Span:
    """A part of a text, by characters: ``text[start:end]``."""

    text: str
    start: int
    end: int
    score: float
    label: str | None = None


@dataclass(frozen=True)
class Fill:
    """A token that may stand in a gap."""

    token: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What one adapter answers to one input; what its task has no use for is None.

    Attributes:
        label: the likeliest class, and ``score`` how likely it is.
        labels: of several that may hold together, those that do.
        scores: of all classes, the likeliest first.
        value: a number.
        spans: of the text: those that a tagger found, or the answers to a question, the best first.
        embedding: a vector for the text.
        similarity: the cosine between the vectors of a pair.
        gaps: for each masked token what may stand there, the likeliest first.
        truncated: whether the text fills all that is read of one, so that its end may be missing.
    """

    label: str | None = None
    score: float | None = None
    labels: list[str] | None = None
    scores: list[Score] | None = None
    value: float | None = None
    spans: list[Span] | None = None
    embedding: list[float] | None = None
    similarity: float | None = None
    gaps: list[list[Fill]] | None = None
    truncated: bool = False


def answer_of(task: Task, read: Mapping[str, Any], top: int, truncated: bool = False) -> Answer:
    """The answer in what the ``Task`` of a head gave, with the ``top`` likeliest of what there are many of."""
    match task:
        case Task.classification:
            scores = [Score(**one) for one in read["labels"]]
            return Answer(scores[0].label, scores[0].score, scores=scores[:top], truncated=truncated)
        case Task.multi_label:
            likely = sorted(read["scores"].items(), key=lambda one: -one[1])
            scores = [Score(label, score) for label, score in likely]
            return Answer(labels=read["labels"], scores=scores[:top], truncated=truncated)
        case Task.regression:
            return Answer(value=read["labels"][0]["score"], truncated=truncated)
        case Task.tagging:
            return Answer(spans=[_span(one, one["word"], one["entity_group"]) for one in read["entities"]])
        case Task.question_answering:
            return Answer(spans=[_span(one, one["answer"]) for one in read["answers"][:top]])
        case Task.embedding:
            return Answer(embedding=read["embedding"].tolist(), truncated=truncated)
    gaps = [[Fill(one["token_str"], one["score"]) for one in gap[:top]] for gap in read["fills"]]
    return Answer(gaps=gaps, truncated=truncated)


def _span(read: Mapping[str, Any], text: str, label: str | None = None) -> Span:
    return Span(text, read["start"], read["end"], read["score"], label)
