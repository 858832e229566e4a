"""A trainer whose model runs from its lowest active adapter on, with hidden states that are kept."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import TrainingArguments

from adapterhub.engine.calls import STATES
from adapterhub.engine.plan import Plan
from adapterhub.engine.trunk import Trunk
from adapterhub.errors import TrainingError
from adapterhub.training.trunk_cache import TrunkCache
from adapterhub.training.trunk_data import StatesCollator, WithStates

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrunkCacheMixin:
    """What a ``Trainer`` needs to train with a ``TrunkCache``, once one is given to ``use_trunk_cache``.

    The hidden states of the training data, and of the data that it evaluates on between epochs, are computed before
    the first step. Data that is evaluated on once is run as ever.
    """

    args: TrainingArguments
    accelerator: Any
    data_collator: Any
    train_dataset: Any
    eval_dataset: Any
    adapter_model: Any
    _signature_columns: Any
    _trunk_cache: TrunkCache | None = None
    _trunk: tuple[Plan | None, Trunk] | None = None
    _kept: dict[int, WithStates]

    def use_trunk_cache(self, cache: TrunkCache | None) -> None:
        """Keep the hidden states below the lowest active adapter in ``cache``; None for none."""
        self._trunk_cache, self._trunk, self._kept = cache, None, {}
        if cache is not None and not isinstance(self.data_collator, StatesCollator):
            self.data_collator = StatesCollator(self.data_collator)

    @contextmanager
    def trunk_in_use(self) -> Iterator[None]:
        """Have the model run from the lowest active adapter on inside, where a cache is used.

        Raises:
            TrunkError: if the model, or the adapter, leaves no layers to leave out.
        """
        if self._trunk_cache is None or self.adapter_model.engine.trunk is not None:
            yield
            return
        plan = self.adapter_model.engine.plan()
        if self._trunk is None or self._trunk[0] is not plan:
            self._trunk, self._kept = (plan, Trunk(self.adapter_model)), {}
        with self._trunk[1]:
            yield

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; see ``transformers.Trainer``."""
        with self.trunk_in_use():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def keep_states(self) -> None:
        """Compute the hidden states of the training data, and of what is evaluated on between epochs, if they are used.

        Raises:
            TrainingError: for training data without a length, or states for which there is no room.
        """
        if self._trunk_cache is None:
            return
        for rows in (self.train_dataset, *self._evaluated()):
            if rows is not None:
                self._with_states(rows)

    def _evaluated(self) -> tuple[Any, ...]:
        if self.args.eval_strategy == "no" or getattr(self.args, "predict_with_generate", False):
            return ()
        return tuple(self.eval_dataset.values()) if isinstance(self.eval_dataset, dict) else (self.eval_dataset,)

    def _with_states(self, rows: Any) -> WithStates:
        assert self._trunk_cache is not None and self._trunk is not None
        if id(rows) not in self._kept:
            if isinstance(rows, IterableDataset) or not isinstance(rows, Sized):
                raise TrainingError(
                    "a trunk cache needs data sets of which rows have numbers, and these come in a stream"
                )
            kept = self._columns(rows)
            collate = self._get_collator_with_removed_columns(self.data_collator)  # type: ignore[attr-defined]
            autocast = _AUTOCAST.get(self.accelerator.mixed_precision)
            states = self._trunk_cache.keep(self._trunk[1], kept, collate, autocast)
            self._kept[id(rows)] = WithStates(kept, states)
        return self._kept[id(rows)]

    def _columns(self, rows: Any) -> Any:
        """The rows with the columns that the model takes."""
        if hasattr(rows, "column_names") and hasattr(rows, "features"):
            return self._remove_unused_columns(rows, description="Trunk cache")  # type: ignore[attr-defined]
        return rows

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; data that are run several times come with their hidden states."""
        in_use = self._trunk_cache is not None and self.adapter_model.engine.trunk is not None
        if in_use and any(dataset is one for one in (self.train_dataset, *self._evaluated())):
            dataset = self._with_states(dataset)
        return super()._get_dataloader(dataset, *args, **kwargs)  # type: ignore[misc]

    def _training_rows(self) -> Any:
        in_use = self._trunk_cache is not None and self.adapter_model.engine.trunk is not None
        return self._with_states(self.train_dataset) if in_use else self.train_dataset

    def _get_train_sampler(self, rows: Any = None) -> Any:
        """As in transformers; how long rows are is known without their states."""
        return super()._get_train_sampler(rows.rows if isinstance(rows, WithStates) else rows)  # type: ignore[misc]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if STATES not in self._signature_columns:
            self._signature_columns.append(STATES)
