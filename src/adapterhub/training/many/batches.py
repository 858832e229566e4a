"""The batches of runs: those that see the same rows in the same order take them from one stream."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from adapterhub.training.many.learner import Learner

Batch = Mapping[str, Tensor]


class BatchStream:
    """Batches of a data loader, epoch after epoch, for the runs that share them; it can begin inside an epoch."""

    def __init__(self, loader: DataLoader[Any], learners: Sequence[Learner]) -> None:
        self._loader, self._learners = loader, learners
        self._iterator: Iterator[Batch] | None = None
        self._epoch = self._position = 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._loader)

    @property
    def learners(self) -> list[Learner]:
        """The runs that still train."""
        return [learner for learner in self._learners if learner.active]

    @property
    def epoch(self) -> float:
        """How many epochs have passed."""
        return self._epoch + self._position / len(self._loader)

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether the batch that came last was the last of its epoch."""
        return self._position == 0 and self._epoch > 0

    def next(self) -> Batch:
        """The next batch."""
        if self._iterator is None:
            set_epoch = getattr(self._loader, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self._epoch)
            self._iterator = iter(self._loader)
        batch = next(self._iterator)
        self._position += 1
        if self._position == len(self._loader):
            self._epoch, self._position, self._iterator = self._epoch + 1, 0, None
        return batch

    def skip(self, steps: int) -> None:
        """Go on as after that many batches."""
        self._epoch, beyond = divmod(steps, len(self._loader))
        for _ in range(beyond):
            self.next()


def streams_of(learners: Iterable[Learner]) -> list[BatchStream]:
    """The streams of some runs, each with those that share it."""
    sharing: dict[Any, list[Learner]] = {}
    for learner in learners:
        sharing.setdefault(learner.run.batches, []).append(learner)
    return [BatchStream(own[0].trainer.get_train_dataloader(), own) for own in sharing.values()]
