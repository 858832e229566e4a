"""From what heads give to what people read: labels with scores, spans of the text, vectors, words for a gap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub.serving.encoding import Encoded
from adapterhub.serving.model import check_finite
from adapterhub.serving.rows import Output
from adapterhub.serving.tasks import Task
from adapterhub.serving.texts import Input, Question, Text

_LONGEST_ANSWER = 30  # tokens
_LIKELY = 0.5  # from which on one of several labels holds
_OUTSIDE = "O"


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
        truncated: whether the text was too long, so that its end was not read.
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


class Reader:
    """Makes answers of what one head gives.

    Args:
        task: that of the head.
        labels: the names of its classes by index.
        top: how many of the likeliest are told.
    """

    def __init__(self, task: Task, labels: dict[int, str], tokenizer: PreTrainedTokenizerBase, top: int) -> None:
        self._task, self._labels, self._tokenizer, self._top = task, labels, tokenizer, top

    def read(self, one: Input, encoded: Sequence[Encoded], outputs: Sequence[Output]) -> Answer:
        """The answer to an input that was encoded to rows, from the outputs of these in order.

        Raises:
            BrokenAdapterError: if there are values among them that are no numbers.
        """
        for output in outputs:
            check_finite(output)
        cut_off = any(part.truncated for part in encoded)
        windows = [window for part in encoded for window in part.windows]
        first = outputs[0]
        match self._task:
            case Task.classification:
                scores = self._scores(first["logits"].softmax(-1))
                return Answer(scores[0].label, scores[0].score, scores=scores[: self._top], truncated=cut_off)
            case Task.multi_label:
                scores = self._scores(first["logits"].sigmoid())
                hold = [one.label for one in scores if one.score > _LIKELY]
                return Answer(labels=hold, scores=scores[: self._top], truncated=cut_off)
            case Task.regression:
                return Answer(value=first["logits"].flatten()[0].item(), truncated=cut_off)
            case Task.embedding:
                return self._embedding([output["embeddings"] for output in outputs], cut_off)
            case Task.fill_mask:
                return Answer(gaps=self._gaps(windows[0], first["logits"]), truncated=cut_off)
            case Task.tagging:
                assert isinstance(one, Text)
                return Answer(spans=self._tagged(one.text, windows, outputs))
        assert isinstance(one, Question)
        return Answer(spans=self._answers(one.context, windows, outputs))

    def _scores(self, likely: Tensor) -> list[Score]:
        found = [Score(self._labels[index], value) for index, value in enumerate(likely.tolist())]
        return sorted(found, key=lambda one: -one.score)

    def _embedding(self, vectors: Sequence[Tensor], cut_off: bool) -> Answer:
        if len(vectors) == 1:
            return Answer(embedding=vectors[0].tolist(), truncated=cut_off)
        cosine = torch.nn.functional.cosine_similarity(vectors[0], vectors[1], dim=-1)
        return Answer(similarity=cosine.item(), truncated=cut_off)

    def _gaps(self, window: Encoding, logits: Tensor) -> list[list[Fill]]:
        gaps = [place for place, token in enumerate(window.ids) if token == self._tokenizer.mask_token_id]
        scores, tokens = logits[gaps].softmax(-1).topk(min(self._top, logits.shape[-1]))
        return [
            [Fill(self._tokenizer.decode([token]).strip(), score) for token, score in zip(*one, strict=True)]
            for one in zip(tokens.tolist(), scores.tolist(), strict=True)
        ]

    def _tagged(self, text: str, windows: Sequence[Encoding], outputs: Sequence[Output]) -> list[Span]:
        words: dict[tuple[int, int], tuple[int, Tensor]] = {}  # by place in the text: room around it, scores
        for window, output in zip(windows, outputs, strict=True):
            likely = output["logits"][: len(window.ids)].softmax(-1)
            for place, span in first_tokens(window).items():
                room = min(place, len(window.ids) - place)  # of two windows, the one that shows more around the word
                if span not in words or words[span][0] < room:
                    words[span] = room, likely[place]
        tags = []
        for (start, end), (_, scores) in sorted(words.items()):
            index = int(scores.argmax())
            tags.append(Span(text[start:end], start, end, scores[index].item(), self._labels[index]))
        return merged(text, tags)

    def _answers(self, context: str, windows: Sequence[Encoding], outputs: Sequence[Output]) -> list[Span]:
        """Spans by the product of what their start and their end get, of all in their window (Devlin et al. 2019)."""
        found: dict[tuple[int, int], float] = {}
        for window, output in zip(windows, outputs, strict=True):
            inside = torch.tensor([place == 1 for place in window.sequence_ids])
            size = len(window.ids)
            start, end = (output[f"{one}_logits"][:size] for one in ("start", "end"))
            start, end = (one.masked_fill(~inside, -torch.inf).softmax(-1) for one in (start, end))
            both = (start[:, None] * end[None, :]).triu().tril(_LONGEST_ANSWER - 1)
            scores, places = both.flatten().topk(min(self._top, both.numel()))
            for score, place in zip(scores.tolist(), places.tolist(), strict=True):
                span = window.offsets[place // size][0], window.offsets[place % size][1]
                if score > 0:
                    found[span] = max(score, found.get(span, 0.0))
        best = sorted(found.items(), key=lambda one: -one[1])[: self._top]
        return [Span(context[start:end], start, end, score) for (start, end), score in best]


def first_tokens(window: Encoding) -> dict[int, tuple[int, int]]:
    """The first token of every word, and where the word stands in the text."""
    words: dict[int, list[int]] = {}
    for place, word in enumerate(window.word_ids):
        if word is not None:
            words.setdefault(word, []).append(place)
    return {own[0]: (window.offsets[own[0]][0], window.offsets[own[-1]][1]) for own in words.values()}


def merged(text: str, tags: Sequence[Span]) -> list[Span]:
    """Words with their labels put together to spans: by ``B-`` and ``I-`` (Ramshaw and Marcus 1995), or where alike.

    The score of a span is the mean of its words'; words labelled ``O`` are left out.
    """
    spans: list[list[Span]] = []
    for before, tag in zip([None, *tags], tags, strict=False):
        label = tag.label or _OUTSIDE
        if label == _OUTSIDE:
            continue
        goes_on = before is not None and _kind(before.label) == _kind(label) and not label.startswith("B-")
        if goes_on:
            spans[-1].append(tag)
        else:
            spans.append([tag])
    return [
        Span(
            text[own[0].start : own[-1].end],
            own[0].start,
            own[-1].end,
            sum(one.score for one in own) / len(own),
            _kind(own[0].label),
        )
        for own in spans
    ]


def _kind(label: str | None) -> str:
    """What a label says without the place in a span."""
    return (label or _OUTSIDE).removeprefix("B-").removeprefix("I-")
