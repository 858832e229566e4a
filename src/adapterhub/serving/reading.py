"""Between texts and rows, both ways, as ``adapterhub.inference`` goes for the kind of head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from adapterhub.heads import Head
from adapterhub.inference.tasks import Item, Reader, task_of
from adapterhub.serving.answers import Answer, answer_of
from adapterhub.serving.errors import BadInputError, BrokenAdapterError
from adapterhub.serving.rows import Output
from adapterhub.serving.tasks import Task, name_of
from adapterhub.serving.texts import Input, Question

# These read all of a long text, the others its beginning.
_IN_WINDOWS = (Task.tagging, Task.question_answering)
_OF_ONE_TEXT = (Task.tagging, Task.fill_mask)


@dataclass(frozen=True)
class Encoded:
    """An input as rows of tokens: one item, or one for each text of a pair whose vectors are compared."""

    items: Sequence[Item]

    @property
    def rows(self) -> list[Mapping[str, Sequence[int]]]:
        """The rows of all items."""
        return [row for item in self.items for row in item.rows]


class HeadReader:
    """Encodes for a head, and reads its outputs.

    Args:
        head: the one that answers.
        reader: what is known of the model and the head's labels.
        top: how many of the likeliest labels, spans or tokens are told.
    """

    def __init__(self, head: Head, reader: Reader, top: int) -> None:
        self.task, self._reader, self._top = name_of(head), reader, top
        kind = task_of(head)
        # With 1, tasks give what they give in another form.
        self._how = kind(top_k=max(top, 2)) if "top_k" in {one.name for one in fields(kind)} else kind()  # type: ignore[arg-type, call-arg]

    def encode(self, inputs: Sequence[Input]) -> list[Encoded]:
        """The rows of each input.

        Raises:
            BadInputError: for an input that the head does not read.
            DataError: for inputs that do not go together, or a text without a gap that could be filled.
        """
        given = [self._given(one) for one in inputs]
        items = iter(self._how.encode([one for several in given for one in several], self._reader))
        return [Encoded(list(islice(items, len(several)))) for several in given]

    def read(self, encoded: Encoded, outputs: Sequence[Output]) -> Answer:
        """The answer to an input, from the outputs of its rows.

        Raises:
            BrokenAdapterError: if there are values among them that are no numbers.
        """
        left = iter(outputs)
        read = [self._answer(item, list(islice(left, len(item.rows)))) for item in encoded.items]
        if len(read) == 2:
            first, second = (one["embedding"] for one in read)
            cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
            return Answer(similarity=float(cosine))
        full = any(len(row["input_ids"]) >= self._reader.max_length for row in encoded.rows)
        return answer_of(self.task, read[0], self._top, full and self.task not in _IN_WINDOWS)

    def _given(self, one: Input) -> list[Any]:
        """An input as the task takes it."""
        if isinstance(one, Question) != (self.task is Task.question_answering):
            needs = '{"question": ..., "context": ...}' if self.task is Task.question_answering else "texts"
            raise BadInputError(f"an adapter for {self.task} reads {needs}")
        if isinstance(one, Question):
            return [(one.question, one.context)]
        if one.pair is None:
            return [one.text]
        if self.task in _OF_ONE_TEXT:
            raise BadInputError(f"an adapter for {self.task} reads one text, and not pairs")
        return [one.text, one.pair] if self.task is Task.embedding else [(one.text, one.pair)]

    def _answer(self, item: Item, outputs: Sequence[Output]) -> dict[str, Any]:
        parts: list[Any] = []
        for output in outputs:
            if not all(torch.isfinite(tensor).all() for tensor in output.values()):
                raise BrokenAdapterError("the adapter gives values that are no numbers: it is broken, train it again")
            of_row = {name: tensor.unsqueeze(0) for name, tensor in output.items()}
            parts.extend(self._how.read(ModelOutput(of_row), of_row, self._reader))
        return self._how.answer(item, parts, self._reader)
