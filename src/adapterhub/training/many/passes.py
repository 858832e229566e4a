"""Which runs go through the model in one pass, and what the pass gives for each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub.composition import BatchSplit, Composition, Parallel, Stack
from adapterhub.errors import CompositionError
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.many.batches import Batch
from adapterhub.training.many.learner import Learner

_PADDING = 1.1  # times their own tokens, at most, is what batches of unlike length may take together
_TOKENS = 16384  # of all runs of a pass, at most: what one more spares is little, and memory grows with it


@dataclass(frozen=True)
class Pass:
    """A batch for some runs: all of its rows for each of them, or with ``rows`` so many for each, one after another."""

    batch: Batch
    learners: tuple[Learner, ...]
    rows: tuple[int, ...] = ()

    @property
    def setup(self) -> Composition:
        """The composition of their adapters."""
        names = [learner.run.adapter for learner in self.learners]
        if len(names) == 1:
            return Stack(names[0])
        return BatchSplit(*names, batch_sizes=self.rows) if self.rows else Parallel(*names)

    def run(self, model: FlexibleAdapterMixin) -> list[tuple[Learner, Tensor, Tensor]]:
        """For each run its loss and its logits ``[rows, labels]``."""
        if model.active_adapters != self.setup:
            model.set_active_adapters(self.setup)
        output = model(**self.batch)
        answers = [output] if len(self.learners) == 1 else output.head_outputs
        return [(learner, one.loss, one.logits) for learner, one in zip(self.learners, answers, strict=True)]


class Passes:
    """Divides batches, and the runs that they are for, into passes of one model.

    Runs that share a batch read it side by side (``Parallel``). Batches that one run reads are put one below the other
    (``BatchSplit``), where they are of like length. Runs whose adapters cannot act side by side have a pass each.
    """

    def __init__(self, model: FlexibleAdapterMixin, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._left = tokenizer.padding_side == "left"
        self._padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
        self._fits: dict[tuple[type[Composition], tuple[str, ...]], bool] = {}

    def of(self, wanted: Iterable[tuple[Batch, Sequence[Learner]]]) -> Iterator[Pass]:
        """The passes for batches, each with the runs that it is for."""
        alone: list[Pass] = []
        for batch, learners in wanted:
            most = max(1, _TOKENS // _tokens(batch))
            for first in range(0, len(learners), most):
                one = Pass(batch, tuple(learners[first : first + most]))
                if len(one.learners) == 1 or not self._fit(one):
                    alone += [Pass(batch, (learner,)) for learner in one.learners]
                else:
                    yield one
        yield from self._joined(sorted(alone, key=lambda one: _length(one.batch)))

    def _joined(self, alone: Sequence[Pass]) -> Iterator[Pass]:
        """Passes of one run each, shorter batches first, put together where that wastes little."""
        together: list[Pass] = []
        for one in alone:
            if together and not self._goes_with(together, one):
                yield self._join(together)
                together = []
            together.append(one)
        if together:
            yield self._join(together)

    def _goes_with(self, together: Sequence[Pass], one: Pass) -> bool:
        batches = [each.batch for each in (*together, one)]
        size = _length(one.batch) * sum(_rows(batch) for batch in batches)
        if size > min(_TOKENS, _PADDING * sum(map(_tokens, batches))) or len({frozenset(b) for b in batches}) > 1:
            return False
        return self._fit(self._join([*together, one]))

    def _fit(self, one: Pass) -> bool:
        """Whether the adapters of a pass can act together."""
        setup = one.setup
        key = type(setup), setup.names()
        if key not in self._fits:
            engine = self._model.engine
            try:
                engine.release(engine.acquire(setup))
                self._fits[key] = True
            except CompositionError:
                self._fits[key] = False
        return self._fits[key]

    def _join(self, passes: Sequence[Pass]) -> Pass:
        if len(passes) == 1:
            return passes[0]
        batches = [self._padded(one.batch, _length(passes[-1].batch)) for one in passes]
        joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        learners = tuple(learner for one in passes for learner in one.learners)
        return Pass(joined, learners, tuple(map(_rows, batches)))

    def _padded(self, batch: Batch, length: int) -> Batch:
        missing, own = length - _length(batch), _length(batch)
        ends = (missing, 0) if self._left else (0, missing)
        return {
            name: F.pad(one, (*(0, 0) * (one.dim() - 2), *ends), value=self._padding.get(name, 0))
            if one.dim() > 1 and one.shape[1] == own
            else one
            for name, one in batch.items()
        }


def _rows(batch: Batch) -> int:
    return int(batch["input_ids"].shape[0])


def _length(batch: Batch) -> int:
    return int(batch["input_ids"].shape[1])


def _tokens(batch: Batch) -> int:
    return int(batch["input_ids"].numel())
