"""Compositions: immutable expressions over the names of adapters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Union

from adapterhub.errors import CompositionError

Expression = Union[str, "Composition"]


@dataclass(frozen=True, init=False)
class Composition:
    """A block of adapters that act together; its children are names or further blocks."""

    children: tuple[Expression, ...]

    def __init__(self, *children: "Expression | Iterable[Expression]") -> None:
        object.__setattr__(self, "children", tuple(_flat(children)))
        if not self.children:
            raise CompositionError(f"{type(self).__name__} needs at least one adapter")

    def __iter__(self) -> Iterator[Expression]:
        return iter(self.children)

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, index: int) -> Expression:
        return self.children[index]

    def first(self) -> str:
        """The name of the first adapter, looking into blocks."""
        child = self.children[0]
        return child if isinstance(child, str) else child.first()

    def last(self) -> str:
        """The name of the last adapter, looking into blocks."""
        child = self.children[-1]
        return child if isinstance(child, str) else child.last()

    def flatten(self) -> set[str]:
        """The names of all adapters in it."""
        return {name for child in self.children for name in ({child} if isinstance(child, str) else child.flatten())}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.children))})"


class Stack(Composition):
    """Adapters one after another: each reads what the one before it gave (Pfeiffer et al. 2020, MAD-X)."""


def parse_composition(expression: Any) -> Composition | None:
    """A composition from a name, a block, or a list of them (a Stack); None and an empty list stay None.

    Raises:
        CompositionError: for anything else.
    """
    if expression is None or isinstance(expression, Composition):
        return expression
    if isinstance(expression, str):
        return Stack(expression)
    if isinstance(expression, (list, tuple)):
        return Stack(*expression) if expression else None
    raise CompositionError(f"an adapter setup is a name, a composition or a list of them, not {expression!r}")


def _flat(children: Iterable[Any]) -> Iterator[Expression]:
    for child in children:
        if isinstance(child, (str, Composition)):
            yield child
        elif isinstance(child, (list, tuple)):
            yield from _flat(child)
        else:
            raise CompositionError(f"a composition holds names and compositions, not {child!r}")
