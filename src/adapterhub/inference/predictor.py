"""Answers of a model with adapters for many texts, fast: one precision, batches of like length, in order."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapterhub.errors import ConfigError
from adapterhub.inference import batching
from adapterhub.inference.batching import Sized
from adapterhub.inference.precision import Precision, inference_precision, is_dispatched, prepared
from adapterhub.inference.tasks import Item, Reader, Task, task_for

_BUDGETS = {"cpu": 1024, "cuda": 32768}  # on a processor, what its caches hold


class Predictor:
    """Predicts with a model as it is now: what becomes of the model later does not change a predictor.

    It holds a copy of the model that has in common with it what is the same in both: nothing, or the whole of it, by
    precision. An adapter that can be written into the weights (LoRA, say) is, in the copy. The model itself is never
    changed.

    A call takes texts (or whatever the task takes, see ``adapterhub.inference``) and gives an iterator over the
    answers, in the same order. It reads ``window`` items at a time, so millions of them need no more memory than a
    few thousand. Within a window rows are sorted by length, and run in batches of at most ``token_budget`` tokens,
    padding included, while a thread prepares the next window.

    Attributes:
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``, or None where the model has a precision of its own.
        task: what is asked of the model.
        model: the copy.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        task: Task | None = None,
        precision: Precision = "auto",
        device: "torch.device | str | None" = None,
        token_budget: int | None = None,
        window: int = 2048,
        max_length: int | None = None,
        compile: bool = False,
    ) -> None:
        """A predictor for the active adapters and the active head of ``model``.

        Args:
            model: any model with adapters, with flexible heads or with a head of its class.
            tokenizer: the one of the model.
            task: options for the kind of head (``Tagging(aggregation="max")``); by default those of its class.
            precision: ``"auto"`` takes what the machine computes fastest with; see ``adapterhub.inference``.
            device: where to run; by default a GPU, if there is one, else where the model is.
            token_budget: tokens in a batch; by default 1024 on a processor, and 32768 on a GPU.
            window: items that are sorted together.
            max_length: tokens of a text that are read; by default what the tokenizer says, else the model.
            compile: run by ``torch.compile`` (with CUDA graphs on a GPU), on rows padded to a few lengths. Worth its
                time of compilation for long work alone.

        Raises:
            HeadError: if not one head is active, or it is of a kind that nothing can be predicted with by itself.
            ConfigError: for a precision that is unknown or that the model cannot have, or a number below 1.
        """
        for name, value in {"token_budget": token_budget, "window": window, "max_length": max_length}.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} is at least 1, not {value}")
        self.task = task_for(model) if task is None else task
        self.device = _device(model, device)
        self.precision = inference_precision(model, precision, self.device)
        self.token_budget = token_budget or _BUDGETS.get(self.device.type, _BUDGETS["cuda"])
        self.window = window
        self.reader = Reader.of(model, tokenizer, max_length)
        self.model = prepared(model, self.precision, self.device)
        takes = inspect.signature(self.model.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in takes else {}
        self.compiled = compile
        if compile:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            self.model.compile(mode=mode, dynamic=False)

    def __call__(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The answer for each item, in order.

        Raises:
            DataError: for an item that the task cannot take.
        """
        read = batching.windows(items, self.window)
        with ThreadPoolExecutor(1, "adapterhub-tokens") as pool:
            coming = None
            for window in chain(read, (None,)):
                encoded = coming
                coming = None if window is None else pool.submit(self.task.encode, window, self.reader)
                if encoded is not None:
                    yield from self._answers(encoded.result())

    def predict(self, items: Iterable[Any]) -> list[dict[str, Any]]:
        """As a call, all answers at once."""
        return list(self(items))

    def _answers(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """The answers for one window."""
        groups = [item.rows for item in items]
        if not self.task.grouped:
            groups = [(row,) for rows in groups for row in rows]
        found: list[Any] = [None] * len(groups)
        sized = (Sized(number, rows) for number, rows in enumerate(groups))
        for batch in batching.batches(sized, self.token_budget, self._padded_length):
            for one, part in zip(batch, self._read(batch), strict=True):
                found[one.number] = part
        parts = iter(found)
        for item in items:
            own = [next(parts) for _ in range(1 if self.task.grouped else len(item.rows))]
            yield self.task.answer(item, own, self.reader)

    def _read(self, batch: Sequence[Sized]) -> list[Any]:
        """What the task reads of the model's outputs for each of a batch; one that is too large is halved."""
        try:
            with torch.inference_mode():
                inputs = self._inputs(batch)
                # In a context of its own: an ``AdapterSetup`` around is for other models.
                outputs = Context().run(partial(self.model, **inputs, **self._options))
                parts = self.task.read(outputs, inputs, self.reader)
                return list(parts)[: len(batch)]  # of a compiled model some may be there to make up the number
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        return [*self._read(batch[:half]), *self._read(batch[half:])]

    def _inputs(self, batch: Sequence[Sized]) -> dict[str, Tensor]:
        """The rows of a batch as tensors; for a compiled model always as many of a length, the last one repeated."""
        length = self._padded_length(max(one.length for one in batch))
        each = len(batch[0].rows)
        count = max(self.token_budget // (length * each), 1) if self.compiled else len(batch)
        rows = [row for one in (*batch, *[batch[-1]] * (count - len(batch))) for row in one.rows]
        inputs = batching.padded(rows, self.reader.tokenizer, length)
        shape = (-1, each, length) if self.task.grouped else (-1, length)
        return {name: tensor.view(shape).to(self.device) for name, tensor in inputs.items()}

    def _padded_length(self, length: int) -> int:
        if not self.compiled:
            return max(length, 1)
        return min(batching.bucket(length), max(self.reader.max_length, length))


def _device(model: PreTrainedModel, wanted: "torch.device | str | None") -> torch.device:
    """Where to run: where it is asked for, else on a GPU, else where the model is."""
    if wanted is not None:
        return torch.device(wanted)
    if torch.cuda.is_available() and not is_dispatched(model):
        return torch.device("cuda")
    return model.device
