"""Labels for the words of a text, and the entities that neighbouring words make together.

A long text is read in windows that overlap; each token has the label of the window in which it has most around it
(Devlin et al. 2019, in their code for questions). Nothing of it is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from transformers.utils import ModelOutput

from adapterhub.errors import ConfigError, DataError
from adapterhub.inference.tasks import Inputs, Item, Parts, Reader, Task, register_task, rows_of, softmax, values

Aggregation = Literal["none", "simple", "first", "average", "max"]
_OUTSIDE = "O"


class _Unit(NamedTuple):
    """A token, or a word: its label with its score, and the characters that it stands for."""

    label: str
    score: float
    start: int
    end: int


class _Window(NamedTuple):
    """Of the tokens in one row: where they stand in it, the numbers of their words, their characters."""

    places: np.ndarray
    words: list[int]
    offsets: list[tuple[int, int]]


@register_task("tagging", "ForTokenClassification")
@dataclass(frozen=True)
class Tagging(Task):
    """For a text ``entities``; for a list of words ``tags`` and ``scores``, one for each word.

    An entity has ``entity_group``, ``score`` (the mean over what it is made of), ``word``, and the characters from
    ``start`` to ``end``. ``aggregation`` says what a word of several tokens is labelled by: its ``first`` token, the
    ``average`` of their scores, or the token that has the ``max`` score. ``simple`` makes entities of tokens, ``none``
    lists each token (``entity`` in the place of ``entity_group``). ``B-`` and ``I-`` before a label are understood;
    what is ``O`` is left out. ``stride`` is the number of tokens that windows of a long text have in common.

    Raises:
        ConfigError: for an unknown aggregation.
    """

    aggregation: Aggregation = "first"
    stride: int = 32

    columns = ("text",)

    def __post_init__(self) -> None:
        if self.aggregation not in get_args(Aggregation):
            raise ConfigError(f"aggregation is one of {', '.join(get_args(Aggregation))}, not {self.aggregation!r}")

    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """Rows for all windows of each text."""
        texts = [one["text"] if isinstance(one, dict) else one for one in given]
        split = isinstance(texts[0], list | tuple)
        for text in texts:
            if not (isinstance(text, list | tuple) if split else isinstance(text, str)):
                raise DataError(f"texts, or lists of words, are needed, and not both: {str(text)[:60]!r}")
        stride = min(self.stride, reader.max_length // 4)
        encoded = reader.windows(texts, stride=stride, is_split_into_words=split, return_special_tokens_mask=True)
        rows = rows_of(encoded, reader.tokenizer.model_input_names)
        found: list[list[tuple[Any, _Window]]] = [[] for _ in texts]
        for index, owner in enumerate(encoded["overflow_to_sample_mapping"]):
            places = np.flatnonzero(np.array(encoded["special_tokens_mask"][index]) == 0)
            words, offsets = encoded.word_ids(index), encoded["offset_mapping"][index]
            window = _Window(places, [words[place] for place in places], [offsets[place] for place in places])
            found[owner].append((rows[index], window))
        return [
            Item(tuple(row for row, _ in own), (text, [window for _, window in own], stride))
            for text, own in zip(texts, found, strict=True)
        ]

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The shares of the labels of each token: ``[seq, labels]``."""
        return softmax(values(outputs["logits"]))

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """Entities of a text, or tags of words."""
        text, windows, stride = item.kept
        scores, words, offsets = _joined(windows, parts, stride)
        if not isinstance(text, str):
            by_word = {word: _labelled(scores[own], self.aggregation) for word, own in _by_word(words)}
            best = [by_word.get(index, (None, 0.0)) for index in range(len(text))]  # None: a word without a token
            tags = [_OUTSIDE if label is None else reader.labels[label] for label, _ in best]
            return {"tags": tags, "scores": [score for _, score in best]}
        by_token = self.aggregation in ("none", "simple")
        groups = ((0, [index]) for index in range(len(words))) if by_token else _by_word(words)
        units = []
        for _, own in groups:
            label, score = _labelled(scores[own], self.aggregation)
            units.append(_Unit(reader.labels[label], score, offsets[own[0]][0], offsets[own[-1]][1]))
        if self.aggregation == "none":
            return {"entities": [_entity("entity", text, [unit]) for unit in units if unit.label != _OUTSIDE]}
        return {"entities": [_entity("entity_group", text, own) for own in _groups(units) if own[0].label != _OUTSIDE]}


def _joined(
    windows: Sequence[_Window], parts: Sequence[np.ndarray], stride: int
) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
    """Scores, words and characters of all tokens in order, each out of the window where it is farthest from an end."""
    chosen: dict[int, tuple[int, int, int]] = {}
    start = 0
    for number, window in enumerate(windows):
        count = len(window.places)
        for place in range(count):
            # The first and the last token of the text have no text beyond them.
            before = place if number else count
            after = count - 1 - place if number < len(windows) - 1 else count
            margin = min(before, after)
            if start + place not in chosen or margin > chosen[start + place][0]:
                chosen[start + place] = margin, number, place
        start += count - stride
    order = [chosen[index][1:] for index in sorted(chosen)]
    scores = [parts[number][windows[number].places[place]] for number, place in order]
    return (
        np.array(scores).reshape(len(order), -1),
        [windows[number].words[place] for number, place in order],
        [windows[number].offsets[place] for number, place in order],
    )


def _by_word(words: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """The number of each word, and its tokens."""
    own: list[int] = []
    for index, word in enumerate(words):
        if own and words[own[0]] != word:
            yield words[own[0]], own
            own = []
        own.append(index)
    if own:
        yield words[own[0]], own


def _labelled(scores: np.ndarray, aggregation: Aggregation) -> tuple[int, float]:
    """The label of a word, by the scores ``[tokens, labels]`` of its tokens."""
    best = scores[0]
    if aggregation == "average":
        best = scores.mean(0)
    elif aggregation == "max":
        best = scores[scores.max(-1).argmax()]
    return int(best.argmax()), float(best.max())


def _groups(units: Sequence[_Unit]) -> Iterator[list[_Unit]]:
    """Neighbours of the same kind, where no ``B-`` says that another one begins."""
    own: list[_Unit] = []
    for unit in units:
        if own and (unit.label.startswith("B-") or _kind(unit.label) != _kind(own[-1].label)):
            yield own
            own = []
        own.append(unit)
    if own:
        yield own


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _entity(key: str, text: str, units: Sequence[_Unit]) -> dict[str, Any]:
    start, end = units[0].start, units[-1].end
    name = units[0].label if key == "entity" else _kind(units[0].label)
    score = float(np.mean([unit.score for unit in units]))
    return {key: name, "score": score, "word": text[start:end], "start": start, "end": end}
