"""A trainer whose model runs from its lowest active adapter on, with hidden states that are kept."""

from collections.abc import Iterator, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    """A ``Trainer`` that trains with a ``TrunkCache``, once one is given to ``use_trunk_cache``.

    The hidden states of the training data, and of the data that it evaluates on between epochs, are computed before
    the first step. Data that is evaluated on once is run as ever.
    """

    _trunk_cache: TrunkCache | None = None
    _trunk: tuple[Plan | None, Trunk] | None = None
    _kept: dict[int, WithStates]

    if TYPE_CHECKING:
        args: TrainingArguments
        accelerator: Any
        data_collator: Any
        train_dataset: Any
        eval_dataset: Any
        adapter_model: Any
        _signature_columns: Any
        _computing_base: Any
        _remove_unused_columns: Any
        _get_collator_with_removed_columns: Any

    def use_trunk_cache(self, cache: TrunkCache | None) -> None:
        """Keep the hidden states below the lowest active adapter in ``cache``; None for none."""
        self._trunk_cache, self._trunk, self._kept = cache, None, {}
        if cache is not None and not isinstance(self.data_collator, StatesCollator):
            self.data_collator = StatesCollator(self.data_collator)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; see ``transformers.Trainer``.

        Raises:
            TrunkError: with a cache, if the model or the adapter leaves no layers to leave out.
            TrainingError: with a cache, for data without a length, or states for which there is no room.
        """
        with self._trunk_in_use() as trunk:
            if trunk is None:
                return super().train(*args, **kwargs)  # type: ignore[misc]
            rows = self.train_dataset
            try:
                self.train_dataset = self._with_states(rows, trunk)
                for evaluated in self._evaluated():
                    self._with_states(evaluated, trunk)
                return super().train(*args, **kwargs)  # type: ignore[misc]
            finally:
                self.train_dataset = rows

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; see ``transformers.Trainer``."""
        with self._trunk_in_use():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def check_interrupted(self) -> None:
        """Called between batches while states are computed: where an interruption was asked for, it raises one."""

    @contextmanager
    def _trunk_in_use(self) -> Iterator[Trunk | None]:
        """Have the model run from the lowest active adapter on inside, if a cache is used; None if none is."""
        if self._trunk_cache is None or self.adapter_model.engine.trunk is not None:
            yield None if self._trunk_cache is None or self._trunk is None else self._trunk[1]
            return
        plan = self.adapter_model.engine.plan()
        with ExitStack() as stack:
            stack.enter_context(self._computing_base())
            if self._trunk is None or self._trunk[0] is not plan:
                with self.accelerator.autocast():
                    self._trunk, self._kept = (plan, Trunk(self.adapter_model)), {}
            yield stack.enter_context(self._trunk[1])

    def _evaluated(self) -> tuple[Any, ...]:
        """The data that is evaluated on several times."""
        if self.args.eval_strategy == "no" or getattr(self.args, "predict_with_generate", False):
            return ()
        return tuple(self.eval_dataset.values()) if isinstance(self.eval_dataset, dict) else (self.eval_dataset,)

    def _with_states(self, rows: Any, trunk: Trunk) -> WithStates:
        """The rows with their states, which are computed if they are not kept already."""
        assert self._trunk_cache is not None
        if id(rows) not in self._kept:
            if isinstance(rows, IterableDataset) or not isinstance(rows, Sized):
                raise TrainingError("a trunk cache needs data sets whose rows have numbers, and these come in a stream")
            if hasattr(rows, "column_names"):  # of the datasets library
                rows_read = self._remove_unused_columns(rows, description="Trunk cache")
            else:
                rows_read = rows
            collate = self._get_collator_with_removed_columns(self.data_collator)
            cache = replace(self._trunk_cache, progress=self._tell)
            states = cache.keep(trunk, rows_read, collate, _AUTOCAST.get(self.accelerator.mixed_precision))
            self._kept[id(rows)] = WithStates(rows_read, states)
        return self._kept[id(rows)]

    def _tell(self, done: float, total: float, what: str) -> None:
        assert self._trunk_cache is not None
        self.check_interrupted()
        if self._trunk_cache.progress is not None:
            self._trunk_cache.progress(done, total, what)

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; what is evaluated on several times comes with its hidden states."""
        in_use = self._trunk_cache is not None and self.adapter_model.engine.trunk is not None
        if in_use and self._trunk is not None and any(dataset is one for one in self._evaluated()):
            dataset = self._with_states(dataset, self._trunk[1])
        return super()._get_dataloader(dataset, *args, **kwargs)  # type: ignore[misc]

    def _rows_to_measure(self) -> Any:
        rows = self.train_dataset
        return rows.rows if isinstance(rows, WithStates) else rows

    def _get_train_sampler(self, rows: Any = None) -> Any:
        """As in transformers; how long rows are is known without their states."""
        return super()._get_train_sampler(rows.rows if isinstance(rows, WithStates) else rows)  # type: ignore[misc]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if STATES not in self._signature_columns:
            self._signature_columns.append(STATES)
