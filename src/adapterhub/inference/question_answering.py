"""The part of a text that answers a question about it.

A long text is read in windows that overlap (Devlin et al. 2019, section 4.2 for the score of a span). Scores of all
windows are shares of one whole, so that spans of different windows can be compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import BatchEncoding
from transformers.utils import ModelOutput

from adapterhub.errors import DataError
from adapterhub.inference.tasks import Inputs, Item, Parts, Reader, Task, register_task, rows_of, values

_MOST_FOR_QUESTION = 64


class _Window(NamedTuple):
    """Of the tokens in one row: which are of the text, and the characters of their words (zeros elsewhere)."""

    inside: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class _Span(NamedTuple):
    score: float
    start: int
    end: int


@register_task("question_answering", "ForQuestionAnswering")
@dataclass(frozen=True)
class QuestionAnswering(Task):
    """``answer``, whole words of the text, its ``score``, and the characters from ``start`` to ``end``.

    What is given is a question and a text. The score is the probability of the first token times that of the last,
    over the text and the first token of each row, which stands for no answer. With ``impossible`` no answer (an empty
    one) is given where that is likelier. ``max_answer_length`` counts tokens; ``stride`` is the number of tokens that
    windows of a long text have in common. With ``top_k`` above 1, ``answers`` lists as many, best first.
    """

    top_k: int = 1
    max_answer_length: int = 30
    stride: int = 128
    impossible: bool = False

    columns = ("question", "context")

    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """Rows for all windows of each text, the question before each."""
        pairs = [_question_and_text(one) for one in given]
        questions, texts = ([pair[place] for pair in pairs] for place in (0, 1))
        questions = [_shortened(question, reader) for question in questions]
        stride = min(self.stride, (reader.max_length - _most_for_question(reader)) // 4)
        encoded = reader.windows(questions, texts, stride=stride, truncation="only_second")
        rows = rows_of(encoded, reader.tokenizer.model_input_names)
        found: list[list[tuple[Any, _Window]]] = [[] for _ in texts]
        for index, owner in enumerate(encoded["overflow_to_sample_mapping"]):
            found[owner].append((rows[index], _window(encoded, index)))
        return [
            Item(tuple(row for row, _ in own), (text, [window for _, window in own]))
            for text, own in zip(texts, found, strict=True)
        ]

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The logits of first and last tokens: ``[2, seq]`` for each row."""
        both = (values(outputs["start_logits"]), values(outputs["end_logits"]))
        return np.stack(both, axis=1)

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The best span."""
        text, windows = item.kept
        shares, nothing = _shares(windows, parts)
        scores: dict[tuple[int, int], float] = {}
        for window, (start, end) in zip(windows, shares, strict=True):
            for span in self._best(window, start, end):
                scores[span.start, span.end] = scores.get((span.start, span.end), 0.0) + span.score
        if self.impossible:
            scores[0, 0] = nothing
        best = sorted(scores.items(), key=lambda pair: -pair[1])[: self.top_k]
        answers = [
            {"answer": text[start:end], "score": score, "start": start, "end": end} for (start, end), score in best
        ] or [{"answer": "", "score": nothing, "start": 0, "end": 0}]
        return answers[0] if self.top_k == 1 else {"answers": answers}

    def _best(self, window: _Window, start: np.ndarray, end: np.ndarray) -> Iterator[_Span]:
        """Some of the likeliest spans of a window, as whole words."""
        products = np.triu(np.outer(start, end)) - np.triu(np.outer(start, end), self.max_answer_length)
        wanted = min(2 * self.top_k + 10, products.size)  # some fall together when they become whole words
        for place in np.argpartition(-products, wanted - 1, axis=None)[:wanted]:
            first, last = np.unravel_index(place, products.shape)
            if products[first, last] > 0:
                yield _Span(float(products[first, last]), int(window.starts[first]), int(window.ends[last]))


def _question_and_text(given: Any) -> tuple[str, str]:
    pair = (given.get("question"), given.get("context")) if isinstance(given, dict) else given
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
        raise DataError(f"a question and a text are needed, not {str(given)[:60]!r}")
    return tuple(pair)


def _shortened(question: str, reader: Reader) -> str:
    """A question that leaves room for the text."""
    most = _most_for_question(reader)
    offsets = reader.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question if len(offsets) <= most else question[: offsets[most - 1][1]]


def _most_for_question(reader: Reader) -> int:
    """Tokens of a question that are read."""
    return min(_MOST_FOR_QUESTION, reader.max_length // 2)


def _window(encoded: BatchEncoding, index: int) -> _Window:
    """What is known of the tokens of one row."""
    inside = np.array([part == 1 for part in encoded.sequence_ids(index)])
    starts, ends = np.zeros(len(inside), int), np.zeros(len(inside), int)
    for place in np.flatnonzero(inside):
        word = encoded.token_to_word(index, place)
        span = encoded["offset_mapping"][index][place] if word is None else encoded.word_to_chars(index, word, 1)
        starts[place], ends[place] = span[0], span[1]
    return _Window(inside, starts, ends)


def _shares(
    windows: Sequence[_Window], parts: Sequence[np.ndarray]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """The probabilities of first and last tokens in each window, zero outside of the text; and that of no answer."""
    kept = [
        np.where(window.inside | _first(window), part[:, : len(window.inside)], -np.inf)
        for window, part in zip(windows, parts, strict=True)
    ]
    largest = np.max([part.max(-1) for part in kept], axis=0)
    powers = [np.exp(part - largest[:, None]) for part in kept]
    total = sum(part.sum(-1) for part in powers)
    nothing = min(float(np.prod(part[:, 0] / total)) for part in powers)
    shares = []
    for window, part in zip(windows, powers, strict=True):
        start, end = np.where(window.inside, part / total[:, None], 0.0)
        shares.append((start, end))
    return shares, nothing


def _first(window: _Window) -> np.ndarray:
    return np.arange(len(window.inside)) == 0
