"""Rows of a data set with their hidden states, and batches of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from adapterhub.engine.calls import STATES
from adapterhub.errors import TrainingError
from adapterhub.training.trunk_cache import Collate, RowStates


class WithStates(Dataset[dict[str, Any]]):
    """The ``rows`` of a data set, each with its ``trunk_states`` ``[seq, width]``.

    Raises:
        TrainingError: by a row that is not what it was when its states were computed.
    """

    def __init__(self, rows: Sequence[Any], states: RowStates) -> None:
        self.rows, self.states = rows, states

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._with_states(number, self.rows[number])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._with_states(number, row) for number, row in enumerate(self.rows))

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        at_once = getattr(self.rows, "__getitems__", None)
        rows = [self.rows[number] for number in numbers] if at_once is None else at_once(numbers)
        return [self._with_states(number, row) for number, row in zip(numbers, rows, strict=True)]

    def _with_states(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        self.states.index.check(number, row)
        return {**row, STATES: self.states[number]}


@dataclass(frozen=True)
class StatesCollator:
    """What ``collate`` makes of rows, and their hidden states ``[batch, seq, width]`` with it, zeros for padding.

    Raises:
        TrainingError: if it changes what the model reads (by masking tokens at random, say), or its padding cannot be
            told from the text.
    """

    collate: Collate

    def __call__(self, rows: list[Any]) -> Mapping[str, Any]:
        states = [row.get(STATES) for row in rows]
        if states[0] is None:
            return self.collate(rows)
        plain = [{name: value for name, value in row.items() if name != STATES} for row in rows]
        batch: dict[str, Any] = dict(self.collate(plain))
        mask = batch.get("attention_mask")
        lengths = [len(one) for one in states]
        real = None if mask is None or mask.dim() != 2 else mask.bool()
        if real is not None and real.sum(1).tolist() == lengths:
            self._check_same(plain, batch, real)
            padded = states[0].new_zeros(*real.shape, states[0].shape[-1])
            padded[real] = torch.cat(states)
        elif len(set(lengths)) == 1 and "input_ids" not in batch:
            padded = torch.stack(states)
        else:
            raise TrainingError(
                "a batch needs an attention_mask [batch, seq], 1 for each token whose hidden state is kept: these rows "
                f"have {lengths} of them"
            )
        return {**batch, STATES: padded}

    @staticmethod
    def _check_same(rows: list[Any], batch: Mapping[str, Any], real: Tensor) -> None:
        if "input_ids" not in batch:
            return
        given = [
            torch.as_tensor(row["input_ids"])[torch.as_tensor(row["attention_mask"]).bool()]
            if "attention_mask" in row
            else torch.as_tensor(row["input_ids"])
            for row in rows
        ]
        if not torch.equal(batch["input_ids"][real], torch.cat(given).to(batch["input_ids"].dtype)):
            raise TrainingError(
                "the data collator changes the tokens of rows (masks some at random, say), whose hidden states are "
                "kept as they were: train without a trunk cache"
            )
