"""What is run: one row of a batch for each text, with the adapters and the head that answer it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from adapterhub.composition import Composition

Output = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Row:
    """One text as the model reads it, and what acts on it.

    Attributes:
        ids: of its tokens, without padding.
        types: of its tokens, where the model tells the texts of a pair apart.
        setup: the adapters, by the names that they have in the model; None for the bare model.
        head: the head that answers, by the name that it has in the model.
    """

    ids: Sequence[int]
    types: Sequence[int] | None
    setup: Composition | None
    head: str

    @property
    def runs_with(self) -> str:
        """What rows that run alike have in common."""
        return f"{self.setup!r} {self.head}"

    def __len__(self) -> int:
        return len(self.ids)


def cut(rows: Sequence[Row], tokens: int) -> Iterator[list[int]]:
    """The numbers of rows of batches of like lengths, each of at most that many tokens with its padding.

    A row that is longer than that is a batch of its own.
    """
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: len(rows[number])):
        if batch and (len(batch) + 1) * len(rows[number]) > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
