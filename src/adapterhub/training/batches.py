"""Batches of rows of like length, each filled up to a budget of tokens."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import seed_worker

from adapterhub.errors import TrainingError


class TokenBatches(Sampler[list[int]]):
    """Batches of row numbers, in which rows x longest row is at most ``tokens``, padding included.

    Rows are sorted by length, those of one length in an order of their own in each epoch, and cut where one row more
    would exceed the budget; then the batches are shuffled. Every epoch has therefore as many batches as any other, and
    its order depends on seed and epoch alone. A row that is longer than the budget is a batch of its own.

    Args:
        lengths: of each row, in tokens.
        tokens: the budget of a batch.
        most_rows: of a batch, however short they are; by default any number.
        seed: of the order.

    Raises:
        TrainingError: if the budget is not above 0, or there are no rows.
    """

    def __init__(self, lengths: Sequence[int], tokens: int, *, most_rows: int | None = None, seed: int = 0) -> None:
        if tokens < 1 or not len(lengths):
            raise TrainingError(f"a batch of at most {tokens} tokens cannot be made of {len(lengths)} rows")
        self.lengths = torch.as_tensor(lengths)
        self.seed, self.epoch = seed, 0
        self.ends = _cut(sorted(lengths), tokens, most_rows or len(lengths))

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=generator)
        rows = shuffled[self.lengths[shuffled].argsort(stable=True)].tolist()
        starts = [0, *self.ends]
        for batch in torch.randperm(len(self.ends), generator=generator).tolist():
            yield rows[starts[batch] : self.ends[batch]]


def token_budget(lengths: Sequence[int], rows: int) -> int:
    """The least budget with which there are no more batches than of ``rows`` rows each, so that this is their mean.

    It is for batches of at most twice as many rows.

    Raises:
        TrainingError: if there are no rows.
    """
    if not len(lengths):
        raise TrainingError("there are no rows to make batches of")
    ordered, batches = sorted(lengths), -(-len(lengths) // rows)
    budgets = range(1, rows * ordered[-1] + 1)
    return budgets[bisect_right(budgets, -batches - 1, key=lambda tokens: -len(_cut(ordered, tokens, 2 * rows)))]


def _cut(ordered: Sequence[int], tokens: int, most_rows: int) -> list[int]:
    """Where each batch ends in lengths that ascend."""
    ends = [0]
    while ends[-1] < len(ordered):
        start = ends[-1]
        choices = range(start + 1, min(start + most_rows, len(ordered)) + 1)
        fitting = bisect_right(choices, tokens, key=lambda end: (end - start) * ordered[end - 1])
        ends.append(start + max(1, fitting))
    return ends[1:]


class _Order(TrainerCallback):
    """Gives batches the order of the epoch that begins, or is gone on with."""

    def __init__(self, batches: TokenBatches) -> None:
        self.batches = batches

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.batches.set_epoch(int(state.epoch or 0))


class TokenBatchesMixin:
    """A ``Trainer`` whose batches are filled up to a budget of tokens, where it has one.

    ``tokens_per_batch`` ``"auto"`` is the least budget with which batches have ``per_device_train_batch_size`` rows on
    average, so that an epoch has as many steps as with batches of that size. Processes of a distributed training take
    batches in turn, all the same number of them.
    """

    tokens_per_batch: int | Literal["auto"] | None = None

    if TYPE_CHECKING:
        args: TrainingArguments
        accelerator: Any
        data_collator: Any
        train_dataset: Any
        processing_class: Any
        _train_batch_size: int
        add_callback: Any
        remove_callback: Any
        _get_collator_with_removed_columns: Any

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The batches of the training; see ``transformers.Trainer``.

        Raises:
            TrainingError: if the rows do not say how long they are.
        """
        if self.tokens_per_batch is None or self.train_dataset is None:
            loader: DataLoader[Any] = super().get_train_dataloader()  # type: ignore[misc]
            return loader
        args, batches = self.args, self._token_batches()
        self.remove_callback(_Order)
        self.add_callback(_Order(batches))
        seed_workers = partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator, description="training"),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=seed_workers,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def _rows_to_measure(self) -> Any:
        """The rows whose lengths make batches; for a subclass to say."""
        return self.train_dataset

    def _token_batches(self) -> TokenBatches:
        names = getattr(self.processing_class, "model_input_names", None) or ["input_ids"]
        column, data = names[0], self._rows_to_measure()
        if not has_lengths(data, column):
            raise TrainingError(
                f"tokens_per_batch needs rows that are dictionaries with {column!r}, which say how long they are"
            )
        lengths = [len(ids) for ids in (data[column] if isinstance(data, Dataset) else (row[column] for row in data))]
        rows = self._train_batch_size
        tokens = token_budget(lengths, rows) if self.tokens_per_batch == "auto" else self.tokens_per_batch
        assert isinstance(tokens, int)
        most_rows = 2 * rows if self.tokens_per_batch == "auto" else None
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return TokenBatches(lengths, tokens, most_rows=most_rows, seed=seed)


def has_lengths(dataset: Any, column: str = "input_ids") -> bool:
    """Whether the rows of a data set say how long they are."""
    if dataset is None or not hasattr(dataset, "__len__") or not len(dataset):
        return False
    row = dataset[0]
    return isinstance(row, Mapping) and column in row
