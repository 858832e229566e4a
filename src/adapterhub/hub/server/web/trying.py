"""To try an adapter on its page: what is asked for, and what came back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy.orm import Session
from starlette.requests import Request

from adapterhub.errors import HubError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.compatibility import Level, verdict
from adapterhub.hub.inspecting import Need
from adapterhub.hub.server.catalogue import bases
from adapterhub.hub.server.predictions import Answer, Predictions, Span
from adapterhub.hub.server.web.repository_view import View

LONGEST = 5000  # letters of a text
_PAIRS = ("nli", "sts", "rc", "comsense", "quality_estimation")  # tasks about two texts


@dataclass(frozen=True)
class Blank:
    """The fields of the form for a kind of head.

    Attributes:
        task: what the head does.
        first, second: labels of the fields; without a second there is one.
        names: what the server calls the two texts.
        both: whether it takes two texts, and not one alone.
        folded: whether the second one is seldom needed.
        help: what to write.
    """

    task: str
    first: str = "Text"
    second: str = ""
    names: tuple[str, str] = ("text", "text_pair")
    both: bool = False
    folded: bool = False
    help: str = ""

    def input(self, first: str, second: str) -> Any:
        """The texts as the server takes them.

        Raises:
            HubError: if one is missing, or too long.
        """
        for name, text in ((self.first, first), (self.second, second)):
            if len(text) > LONGEST:
                raise HubError(f"{name} has {len(text):,} characters, and {LONGEST:,} can be tried here")
        if not first.strip() or (self.both and not second.strip()):
            raise HubError(f"write something for {self.second if first.strip() else self.first}")
        pair = second if self.second and second.strip() else None
        return first if pair is None else dict(zip(self.names, (first, pair), strict=True))


_CLASSES = Blank("classification", second="Second text", folded=True)
_CLASSES_OF_PAIRS = Blank("classification", "First text", "Second text")
_MARKS = Blank("tagging")
_QUESTION = Blank("question", "Question", "Text that answers it", ("question", "context"), both=True)
_ALIKE = Blank("similarity", "First text", "Second text", both=True)
_GAPS = Blank("gaps", help="Write what masks a word for this model, <mask> or [MASK], where one is missing.")
_BLANKS = {
    "classification": _CLASSES,
    "multilabel_classification": _CLASSES,
    "tagging": _MARKS,
    "question_answering": _QUESTION,
    "sentence_embedding": _ALIKE,
    "masked_lm": _GAPS,
}
_ENDINGS = {  # classes of transformers, of which a head may be a part
    "ForSequenceClassification": _CLASSES,
    "ForTokenClassification": _MARKS,
    "ForQuestionAnswering": _QUESTION,
    "ForMaskedLM": _GAPS,
}


@dataclass(frozen=True)
class Piece:
    """A part of a text; ``label`` is "" where nothing is marked."""

    text: str
    label: str = ""
    score: float = 0.0


@dataclass(frozen=True)
class Trial:
    """What somebody tried, and what came of it.

    Attributes:
        first, second: the texts.
        answer: what the adapter said, or None.
        pieces: the text with what was found in it.
        problem: why there is no answer, or "".
    """

    first: str
    second: str = ""
    answer: Answer | None = None
    pieces: tuple[Piece, ...] = ()
    problem: str = ""


def blank(session: Session, shown: View, served: Fingerprint | None) -> Blank | None:
    """The form for an adapter; None if it cannot be tried, since nobody runs its base, or its head does nothing."""
    if served is None or shown.adapter is None or shown.origin or shown.repository.withdrawn:
        return None
    kind = str((shown.info.get("head") or {}).get("type") or "")
    task = shown.adapter.task.slug if shown.adapter.task is not None else ""
    made = _BLANKS.get(kind) or next((one for name, one in _ENDINGS.items() if kind.endswith(name)), None)
    if made is None or shown.fact("kind") != "adapter" or not _fits(session, shown, served):
        return None
    of_pairs = task in _PAIRS or shown.info.get("pairs")
    return _CLASSES_OF_PAIRS if made is _CLASSES and of_pairs else made


def trial(asked: Blank, first: str, second: str, answer: Answer) -> Trial:
    """An answer as it is shown."""
    text = second if asked is _QUESTION else first
    best = (answer.spans or ())[:1] if asked is _QUESTION else answer.spans or ()
    return Trial(first, second, answer, tuple(_pieces(text, best)))


def predictions_of(request: Request) -> Predictions:
    """The server of predictions of the hub that a request came to."""
    found: Predictions = request.app.state.predictions
    return found


def _fits(session: Session, shown: View, served: Fingerprint) -> bool:
    """Whether the server runs the base model of an adapter, as far as that is known here."""
    adapter = shown.adapter
    if adapter is None or adapter.base is None:
        return False
    needs = tuple(Need(*one) for one in shown.info.get("needs") or ())
    requirement = bases.as_requirement(session, adapter.base, needs)
    return verdict(requirement, bases.recognised(session, served)).level >= Level.SAME_BASE


def _pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    """A text cut where spans begin and end; of two that overlap, the first alone."""
    made, place = list[Piece](), 0
    for one in sorted(spans, key=lambda one: one.start):
        if place <= one.start < one.end <= len(text):
            made += [Piece(text[place : one.start]), Piece(text[one.start : one.end], one.label or "answer", one.score)]
            place = one.end
    return [one for one in (*made, Piece(text[place:])) if one.text]


ThePredictions = Annotated[Predictions, Depends(predictions_of)]
