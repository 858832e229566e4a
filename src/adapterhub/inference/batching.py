"""Rows of tokens in batches of like length, under a budget of tokens."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub.inference.tasks import Row

T = TypeVar("T")
BUCKETS = (16, 32, 64, 128, 256, 512)  # beyond the last one, multiples of it


@dataclass(frozen=True)
class Sized:
    """Something to run: its number, and its rows, which stay together."""

    number: int
    rows: tuple[Row, ...]

    @property
    def length(self) -> int:
        """Tokens of its longest row."""
        return max(len(row["input_ids"]) for row in self.rows)


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def batches(sized: Iterable[Sized], budget: int, length: Callable[[int], int] = int) -> Iterator[list[Sized]]:
    """Batches whose rows, padded, have at most ``budget`` tokens, or a single one; all have as many rows each.

    Longest first, because what does not fit into memory then shows at once. ``length`` says how long rows become when
    they are padded.
    """
    batch: list[Sized] = []
    for one in sorted(sized, key=lambda one: (len(one.rows), one.length), reverse=True):
        longest = batch[0] if batch else one
        tokens = length(longest.length) * len(one.rows) * (len(batch) + 1)
        if batch and (tokens > budget or len(one.rows) != len(longest.rows)):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def bucket(length: int) -> int:
    """The length, of a few, to which rows of ``length`` tokens are padded for a compiled model."""
    return next((size for size in BUCKETS if length <= size), -(-length // BUCKETS[-1]) * BUCKETS[-1])


def padded(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, Tensor]:
    """Rows as tensors ``[rows, length]``, padded on the right, where no position before is shifted."""
    fill: Mapping[str, int | None] = {
        "input_ids": tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
    }
    tensors = {}
    for name in rows[0]:
        table = np.full((len(rows), length), fill.get(name) or 0, dtype=np.int64)
        for index, row in enumerate(rows):
            table[index, : len(row[name])] = row[name]
        tensors[name] = torch.from_numpy(table)
    return tensors
