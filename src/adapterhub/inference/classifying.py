"""One label for a text or a pair, any number of them, a number; the best of several given answers; a vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.utils import ModelOutput

from adapterhub.errors import DataError
from adapterhub.inference.tasks import (
    Inputs,
    Item,
    Parts,
    Reader,
    Task,
    register_task,
    rows_of,
    softmax,
    texts_of,
    values,
)


class _WholeText(Task):
    """A task with one row for each text, or pair of texts."""

    columns = ("text",)

    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """A row for each text or pair."""
        texts = [texts_of(one) for one in given]
        if len({len(parts) for parts in texts}) > 1:
            raise DataError("texts and pairs of texts cannot be mixed: give all rows two texts, or one")
        encoded = reader.encode(*(list(column) for column in zip(*texts, strict=True)))
        return [Item((row,)) for row in rows_of(encoded, reader.tokenizer.model_input_names)]


@register_task("classification", "ForSequenceClassification")
@dataclass(frozen=True)
class Classification(_WholeText):
    """``label`` and ``score``, the share of probability; with one label alone the number that the head gives.

    With ``top_k`` above 1, ``labels`` lists as many, best first.
    """

    top_k: int = 1

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The scores of each text: ``[labels]``."""
        logits = values(outputs["logits"])
        if reader.problem_type == "regression":
            return logits
        return _sigmoid(logits) if logits.shape[-1] == 1 else softmax(logits)

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The best label."""
        order = np.argsort(-parts[0], kind="stable")[: self.top_k]
        best = [{"label": reader.labels[int(index)], "score": float(parts[0][index])} for index in order]
        return best[0] if self.top_k == 1 else {"labels": best}


@register_task("multilabel_classification")
@dataclass(frozen=True)
class MultiLabel(_WholeText):
    """``labels``, those of a probability above ``threshold``, and ``scores``, the probability of each."""

    threshold: float = 0.5

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The probability of each label: ``[labels]``."""
        return _sigmoid(values(outputs["logits"]))

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """All labels that are likely."""
        scores = {label: float(parts[0][index]) for index, label in reader.labels.items()}
        return {"labels": [label for label, score in scores.items() if score > self.threshold], "scores": scores}


@register_task("sentence_embedding")
@dataclass(frozen=True)
class Embedding(_WholeText):
    """``embedding``, the vector of the text, an array ``[width]`` in float32."""

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The vectors."""
        return values(outputs["embeddings"])

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The vector."""
        return {"embedding": parts[0]}


@register_task("multiple_choice", "ForMultipleChoice")
@dataclass(frozen=True)
class MultipleChoice(Task):
    """``choice``, the number of the best one from 0 on, its ``text``, and ``scores``, the share of each.

    What is given is a prompt and a list of choices, each of which is read after the prompt.
    """

    columns = ("prompt", "choices")
    grouped = True

    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """A row for each choice."""
        pairs = [tuple(one[name] for name in self.columns) if isinstance(one, dict) else one for one in given]
        for prompt, choices in pairs:
            if not (isinstance(prompt, str) and isinstance(choices, list | tuple) and choices):
                raise DataError(f"a prompt and a list of choices are needed, not {prompt!r:.60} and {choices!r:.60}")
        prompts = [prompt for prompt, choices in pairs for _ in choices]
        encoded = reader.encode(prompts, [choice for _, choices in pairs for choice in choices])
        rows = iter(rows_of(encoded, reader.tokenizer.model_input_names))
        return [Item(tuple(next(rows) for _ in choices), choices) for _, choices in pairs]

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The share of each choice: ``[choices]``."""
        return softmax(values(outputs["logits"]))

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The best choice."""
        best = int(parts[0].argmax())
        return {"choice": best, "text": item.kept[best], "score": float(parts[0][best]), "scores": parts[0].tolist()}


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))
