"""What a pool knows of each adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub.pool.kinds import Kind
from adapterhub.pool.sources import Source


@dataclass(eq=False, slots=True)
class Entry:
    """An adapter by name: where its values come from, and in which slots they are.

    ``kinds`` are those of its parts; ``slots`` are theirs on the device, None unless it is loaded. ``uses`` counts who
    needs it there now, ``pinned`` keeps it there, and ``loading`` says that a thread is at it.
    """

    name: str
    source: Source
    kinds: Mapping[str, Kind]
    labels: Mapping[int, str] | None
    slots: dict[str, int] | None = None
    uses: int = 0
    pinned: bool = False
    loading: bool = field(default=False)

    @property
    def is_idle(self) -> bool:
        """Whether it may make room for another."""
        return self.slots is not None and not (self.uses or self.pinned or self.loading)


def labels_of(head: Mapping[str, Any] | None) -> dict[int, str] | None:
    """The names of the classes that the configuration of a head says."""
    labels = (head or {}).get("id2label")
    return None if labels is None else {int(index): str(label) for index, label in labels.items()}
