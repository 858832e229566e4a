"""What is run: one row of a batch for each text, with the adapters and the head that answer it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from adapterhub.composition import Composition

Output = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Row:
    """One text as the model reads it, and what acts on it.

    Attributes:
        tokens: the ids of its tokens (``input_ids``), and what else the model reads of them; without padding.
        setup: the adapters, by the names that they have in the model; None for the bare model.
        head: the head that answers, by the name that it has in the model.
    """

    tokens: Mapping[str, Sequence[int]]
    setup: Composition | None
    head: str

    @property
    def runs_with(self) -> str:
        """What rows that run alike have in common."""
        return f"{self.setup!r} {self.head}"

    def __len__(self) -> int:
        return len(self.tokens["input_ids"])
