"""What every kind of prediction has in common: from what a person gives to rows of tokens, and from outputs to answers.

A task is a frozen dataclass of options. Which one goes with a head is registered here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from adapterhub.errors import DataError, HeadError
from adapterhub.heads import Head, StaticHead

T = TypeVar("T", bound="type[Task]")
Row = Mapping[str, Sequence[int]]  # the token ids, mask and types of one sequence
Inputs = Mapping[str, Tensor]
Parts = Sequence[Any] | np.ndarray  # what was read, one for each row
_NO_LIMIT = 1_000_000  # tokenizers that know no limit have one of 1e30


@dataclass(frozen=True)
class Reader:
    """What a task knows of a model: its tokenizer, the tokens that it reads, its labels by index, what these mean."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    labels: Mapping[int, str]
    problem_type: str | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> "Reader":
        """That of a model with its active head."""
        head = active_head(model)
        labels = getattr(head, "labels", None) or model.config.id2label or {}
        return cls(
            tokenizer,
            max_length or longest(model, tokenizer),
            dict(labels),
            model.config.problem_type if head is None else head.problem_type,
        )

    def encode(self, *texts: Sequence[Any], **options: Any) -> BatchEncoding:
        """Token ids of texts, or of pairs (two sequences of texts), cut to what the model reads."""
        return self.tokenizer(*texts, truncation=options.pop("truncation", True), max_length=self.max_length, **options)

    def windows(self, *texts: Sequence[Any], stride: int, **options: Any) -> BatchEncoding:
        """As ``encode``, but all of a long text, in windows that have ``stride`` tokens in common.

        Raises:
            HeadError: if the tokenizer does not say which characters a token stands for.
        """
        if not self.tokenizer.is_fast:
            raise HeadError(
                f"{type(self.tokenizer).__name__} does not say where its tokens stand in a text; use a fast tokenizer"
            )
        return self.encode(
            *texts, stride=stride, return_overflowing_tokens=True, return_offsets_mapping=True, **options
        )


@dataclass(frozen=True)
class Item:
    """One thing to predict for: its rows, and what the task keeps of it for the answer."""

    rows: tuple[Row, ...]
    kept: Any = None


class Task(ABC):
    """How a kind of head is asked, and how its outputs are read.

    ``columns`` names what a mapping that is given has to hold. ``grouped`` tells that all rows of an item go to the
    model as one input of shape ``[batch, rows, seq]``.
    """

    columns: ClassVar[tuple[str, ...]]
    grouped: ClassVar[bool] = False

    @abstractmethod
    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """Rows of tokens for each of what was given.

        Raises:
            DataError: for something that the task cannot take.
        """

    @abstractmethod
    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """What is needed of the model's outputs, for each row of the batch (each item, if grouped)."""

    @abstractmethod
    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The answer for an item, from what was read for each of its rows."""


_TASKS: dict[str, type[Task]] = {}


def register_task(*kinds: str) -> Any:
    """Make a task that of heads of some types (or of classes of transformers whose names end so)."""

    def register(task: T) -> T:
        _TASKS.update(dict.fromkeys(kinds, task))
        return task

    return register


def task_for(model: PreTrainedModel) -> Task:
    """The task of the model's active head, or of the head that its class has.

    Raises:
        HeadError: if there is none, or not exactly one head is active.
    """
    head = active_head(model)
    if head is not None:
        return task_of(head)()
    return _of_class(type(model).__name__, model.config.problem_type)()


def task_of(head: Head) -> type[Task]:
    """The task that goes with a head.

    Raises:
        HeadError: if there is none.
    """
    if isinstance(head, StaticHead):
        return _of_class(head.config.architecture, head.problem_type)
    kinds = [getattr(one, "head_type", None) for one in type(head).__mro__]
    return _known(next((_TASKS[kind] for kind in kinds if kind in _TASKS), None), head.head_type)


def _of_class(name: str, problem_type: str | None) -> type[Task]:
    if problem_type == "multi_label_classification":
        return _TASKS["multilabel_classification"]
    return _known(next((task for kind, task in _TASKS.items() if name.endswith(kind)), None), name)


def _known(task: type[Task] | None, name: str) -> type[Task]:
    if task is None:
        known = ", ".join(kind for kind in _TASKS if not kind.startswith("For"))
        raise HeadError(
            f"there is no way to predict with {name}; there is one for heads of type {known}. Models that "
            "write text do so by model.generate(...)."
        )
    return task


def active_head(model: PreTrainedModel) -> Head | None:
    """The flexible head that answers; None in a model whose class has a head of its own.

    Raises:
        HeadError: if none is active, or several are.
    """
    if not hasattr(model, "heads"):
        return None
    name: Any = model.active_head
    if not isinstance(name, str):
        raise HeadError(
            f"one head has to be active to predict with, and it is {name!r}: set model.active_head to one "
            f"of {', '.join(model.heads) or '(none yet)'}"
        )
    return model.heads[name]


def rows_of(encoded: BatchEncoding, names: Sequence[str]) -> list[Row]:
    """Each sequence of an encoding by itself, with what the model reads of it."""
    columns = {name: encoded[name] for name in names if name in encoded}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def texts_of(given: Any, names: tuple[str, ...] = ("text", "text_pair")) -> tuple[str, ...]:
    """A text or several that go together, given as a string, a tuple, or a mapping with ``names``.

    Raises:
        DataError: for anything else.
    """
    found = given
    if isinstance(given, Mapping):
        found = tuple(given[name] for name in names if name in given)
    texts = (found,) if isinstance(found, str) else tuple(found) if isinstance(found, list | tuple) else ()
    if not 1 <= len(texts) <= len(names) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"a text is needed, or {' and '.join(names)} together, not {str(given)[:60]!r}")
    return texts


def softmax(scores: np.ndarray) -> np.ndarray:
    """Shares over the last axis."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def values(tensor: Tensor) -> np.ndarray:
    """A tensor as an array in memory, in float32."""
    return tensor.float().cpu().numpy()


def longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens the model reads, by its tokenizer or else by its table of positions."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    positions = getattr(model.config, "max_position_embeddings", None)
    if not positions:
        return _NO_LIMIT
    tables = (one for name, one in model.named_modules() if name.endswith("position_embeddings"))
    padding = getattr(next(tables, None), "padding_idx", None)  # RoBERTa's first position comes after it
    return int(positions) - (0 if padding is None else padding + 1)
