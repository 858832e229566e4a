"""Compositions: immutable expressions over the names of adapters."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

from adapterhub.errors import CompositionError

Expression = Union[str, "Composition"]
SETUP = "adapter_setup.json"  # what ``adapters`` and we keep a composition in, beside the folders of its parts
# How ``average_adapter`` makes one adapter of several.
Strategy = Literal[
    "linear",
    "lora_linear_only_negate_b",
    "lora_delta_w_svd",
    "magnitude_prune",
    "ties",
    "dare_linear",
    "dare_ties",
]


@dataclass(frozen=True, init=False)
class Composition:
    """A block of adapters that act together; its children are names or further blocks.

    ``to_dict`` and ``composition_from_dict`` write and read what is kept in ``SETUP``.
    """

    children: tuple[Expression | None, ...]
    kinds: ClassVar[dict[str, type["Composition"]]] = {}
    options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Composition.kinds[cls.__name__] = cls

    def __init__(self, *children: Any) -> None:
        self._hold(tuple(_flat(children)))

    def _hold(self, children: tuple[Expression | None, ...], **options: Any) -> None:
        for name, value in {"children": children, **options}.items():
            object.__setattr__(self, name, value)
        if not any(child is not None for child in children):
            raise CompositionError(f"{type(self).__name__} needs at least one adapter")
        self._check_channels()
        self._check_rows()

    def _check_channels(self) -> None:
        """Refuse children that give several results where one is taken.

        Raises:
            CompositionError: naming the two parts that do not go together.
        """
        for child in self.blocks:
            if child.channels > 1:
                raise CompositionError(
                    f"{child!r} cannot stand in {self!r}: Parallel gives several results for a row, where "
                    f"{type(self).__name__} takes one. Put the Parallel outside, or into a Stack."
                )

    def _check_rows(self) -> None:
        """Refuse children that read the same rows and take unlike numbers of them.

        Raises:
            CompositionError: naming the two parts that do not go together.
        """
        counted = [child for child in self.blocks if child.rows is not None]
        for child in counted[1:]:
            if child.rows != counted[0].rows:
                raise CompositionError(
                    f"{counted[0]!r} takes {counted[0].rows} rows and {child!r} {child.rows}: they cannot stand in one "
                    f"{type(self).__name__}"
                )

    @property
    def blocks(self) -> tuple["Composition", ...]:
        """The children that are blocks themselves."""
        return tuple(child for child in self.children if isinstance(child, Composition))

    @property
    def channels(self) -> int:
        """How many results there are for each row of the input: more than one under ``Parallel`` alone."""
        return 1

    @property
    def parallel_channels(self) -> int:
        """Another name of ``channels``."""
        return self.channels

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Composition":
        """Read back what ``to_dict`` gave: ``composition_from_dict``.

        Raises:
            CompositionError: if it is not that.
        """
        return composition_from_dict(values)

    @property
    def rows(self) -> int | None:
        """The number of rows that a batch must have (or a multiple: beams), or None where any number will do."""
        found = {child.rows for child in self.blocks} - {None}
        return next(iter(found), None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.children)

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, index: int) -> Any:
        return self.children[index]

    def first(self) -> str:
        """The name of the first adapter, looking into blocks."""
        child = next(child for child in self.children if child is not None)
        return child if isinstance(child, str) else child.first()

    def last(self) -> str:
        """The name of the last adapter, looking into blocks."""
        child = next(child for child in reversed(self.children) if child is not None)
        return child if isinstance(child, str) else child.last()

    def names(self) -> tuple[str, ...]:
        """The name of every adapter in it once, in order."""
        found: dict[str, None] = {}
        for child in self.children:
            found |= dict.fromkeys(
                child.names() if isinstance(child, Composition) else () if child is None else [child]
            )
        return tuple(found)

    def flatten(self) -> set[str]:
        """The names of all adapters in it."""
        return set(self.names())

    def walk(self) -> Iterator["Composition"]:
        """This block and every block inside it."""
        yield self
        for child in self.blocks:
            yield from child.walk()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``{"type": ..., "children": [...], "kwargs": {...}}``, a name as type ``"single"``.

        There are no ``"kwargs"`` where a block has no options.
        """
        children = [child.to_dict() if isinstance(child, Composition) else _single(child) for child in self.children]
        options = {name: _plain(getattr(self, name)) for name in self.options if getattr(self, name) is not None}
        return {"type": type(self).__name__, "children": children} | ({"kwargs": options} if options else {})

    def __repr__(self) -> str:
        parts = [repr(child) for child in self.children]
        parts += [f"{name}={_plain(value)!r}" for name in self.options if (value := getattr(self, name)) is not None]
        return f"{type(self).__name__}({', '.join(parts)})"


class Stack(Composition):
    """Adapters one after another: each reads what the one before it gave (Pfeiffer et al. 2020, MAD-X)."""

    def _check_channels(self) -> None:
        several = [child for child in self.blocks if child.channels > 1]
        for child in several[1:]:
            if child.channels != several[0].channels:
                raise CompositionError(
                    f"{several[0]!r} gives {several[0].channels} results for a row and {child!r} {child.channels}: "
                    "they cannot stand in one Stack"
                )

    @property
    def channels(self) -> int:
        return max((child.channels for child in self.blocks), default=1)


@dataclass(frozen=True, init=False, repr=False)
class Fuse(Composition):
    """Adapters side by side, weighed by attention that was trained over them (Pfeiffer et al. 2021, AdapterFusion).

    ``name`` is that of the fusion, by default the names of its children with a comma between; several fusions of the
    same adapters have names of their own.
    """

    options: ClassVar[tuple[str, ...]] = ("name",)

    name: str | None

    def __init__(self, *children: Any, name: str | None = None) -> None:
        self._hold(tuple(_flat(children)), name=name)

    @property
    def fusion(self) -> str:
        """The name of the fusion."""
        return self.name or ",".join(child if isinstance(child, str) else child.last() for child in self)


@dataclass(frozen=True, init=False, repr=False)
class Average(Composition):
    """The weighted mean of what adapters give; ``weights`` are equal by default, and add up to 1 in the end.

    With ``normalize_weights=False`` they are taken as they are, and weigh what each adapter changes.

    Raises:
        CompositionError: for another number of weights than children, or weights that add up to nothing.
    """

    options: ClassVar[tuple[str, ...]] = ("weights", "normalize_weights")

    weights: tuple[float, ...]
    normalize_weights: bool

    def __init__(
        self,
        *children: Any,
        weights: Sequence[float] | None = None,
        normalize_weights: bool = True,
    ) -> None:
        parts = tuple(_flat(children))
        given = (1 / max(1, len(parts)),) * len(parts) if weights is None else tuple(map(float, weights))
        if len(given) != len(parts):
            raise CompositionError(f"Average has {len(parts)} children and {len(given)} weights")
        total = sum(given)
        if normalize_weights and parts:
            if not total:
                raise CompositionError(f"the weights of Average add up to 0 and cannot be normalised: {list(given)}")
            given = tuple(weight / total for weight in given)
        self._hold(parts, weights=given, normalize_weights=normalize_weights)


@dataclass(frozen=True, init=False, repr=False)
class Split(Composition):
    """The positions of a sequence divided among adapters: the first ``splits[0]`` to the first, and so on.

    One number means that many for each. The last adapter takes what is left. Positions count from the start of the
    sequence, in generation too.

    Raises:
        CompositionError: for another number of splits than children, or one below 1.
    """

    options: ClassVar[tuple[str, ...]] = ("splits",)

    splits: tuple[int, ...]

    def __init__(self, *children: Any, splits: int | Sequence[int]) -> None:
        parts = tuple(_flat(children))
        self._hold(parts, splits=_sizes("Split", "splits", splits, len(parts)))


@dataclass(frozen=True, init=False, repr=False)
class BatchSplit(Composition):
    """The rows of a batch divided among adapters: the first ``batch_sizes[0]`` to the first, and so on.

    One number means that many for each.

    Raises:
        CompositionError: for another number of sizes than children, or one below 1.
    """

    options: ClassVar[tuple[str, ...]] = ("batch_sizes",)

    batch_sizes: tuple[int, ...]

    def __init__(self, *children: Any, batch_sizes: int | Sequence[int]) -> None:
        parts = tuple(_flat(children))
        self._hold(parts, batch_sizes=_sizes("BatchSplit", "batch_sizes", batch_sizes, len(parts)))

    def _check_rows(self) -> None:
        for child, size in zip(self.children, self.batch_sizes, strict=True):
            if isinstance(child, Composition) and child.rows not in (None, size):
                raise CompositionError(f"{child!r} takes {child.rows} rows, and {self!r} gives it {size}")

    @property
    def rows(self) -> int:
        return sum(self.batch_sizes)


class Rows(Composition):
    """For each row of a batch its own composition, or None for the bare model: ``Rows(["a", None, Stack("b", "c")])``.

    Raises:
        CompositionError: for something that is no setup.
    """

    def __init__(self, *rows: Any) -> None:
        given = rows[0] if len(rows) == 1 and isinstance(rows[0], (list, tuple)) else rows
        self._hold(tuple(row if isinstance(row, str) else parse_composition(row) for row in given))

    def _check_rows(self) -> None:
        for child in self.blocks:
            if child.rows not in (None, 1):
                raise CompositionError(f"{child!r} takes {child.rows} rows, and Rows gives it one")

    @property
    def rows(self) -> int:
        return len(self.children)


class MultiTask(Composition):
    """For each row the adapter of its task: row i goes to child ``task_ids[i]``, an argument of the model's call."""

    def _check_rows(self) -> None:
        for child in self.blocks:
            if child.rows is not None:
                raise CompositionError(
                    f"{child!r} takes {child.rows} rows, and how many MultiTask gives it depends on task_ids"
                )


class Parallel(Composition):
    """Adapters side by side, each with a result of its own: one input, several outputs (Rücklé et al. 2021).

    The batch is repeated for each child from the first layer on in which one of them acts; results come in the order
    of the children.
    """

    def _check_channels(self) -> None:
        """Several results are what it is for."""

    @property
    def channels(self) -> int:
        return sum(map(channels_of, self.children))


def channels_of(child: Expression | None) -> int:
    """How many results a child of a block gives for each row."""
    return child.channels if isinstance(child, Composition) else 1


def parse_composition(adapter_composition: Any, level: int = 0, model_type: str | None = None) -> Composition | None:
    """A composition from a name, a block, or a list of them (a Stack); None and an empty list stay None.

    ``level`` and ``model_type`` have no effect: a composition may be of any depth, and on any model.

    Raises:
        CompositionError: for anything else.
    """
    expression = adapter_composition
    if expression is None or isinstance(expression, Composition):
        return expression
    if isinstance(expression, str):
        return Stack(expression)
    if isinstance(expression, (list, tuple)):
        return Stack(*expression) if expression else None
    raise CompositionError(f"an adapter setup is a name, a composition or a list of them, not {expression!r}")


def renamed(composition: Composition, names: Mapping[str, str]) -> Composition:
    """The same composition of adapters of other names; ``names`` has a new one for each of those in it.

    Raises:
        CompositionError: if a name is missing.
    """
    return composition_from_dict(_renamed(composition.to_dict(), names))


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if values["type"] != "single":
        return {**values, "children": [_renamed(child, names) for child in values["children"]]}
    name = values["children"][0]
    if name is not None and name not in names:
        raise CompositionError(f"there is no other name for {name!r}; there are some for {', '.join(names) or 'none'}")
    return _single(None if name is None else names[name])


def validate_composition(adapter_composition: Any, level: int = 0, model_type: str | None = None) -> None:
    """Pass what ``parse_composition`` makes something of; arguments are the same.

    Raises:
        CompositionError: for anything else.
    """
    parse_composition(adapter_composition, level, model_type)


def composition_from_dict(values: Mapping[str, Any]) -> Composition:
    """Read back what ``Composition.to_dict`` gave.

    Raises:
        CompositionError: if it is not that.
    """
    found = _read(values)
    if found is None:
        raise CompositionError(f"not a composition: {values!r}")
    return Stack(found) if isinstance(found, str) else found


def _read(values: Any) -> Expression | None:
    try:
        kind, children, options = values["type"], values["children"], values.get("kwargs") or {}
        if kind == "single":
            return None if children[0] is None else str(children[0])
        return Composition.kinds[kind](*map(_read, children), **options)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise CompositionError(f"not a composition: {values!r}") from error


def _single(name: str | None) -> dict[str, Any]:
    return {"type": "single", "children": [name]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sizes(kind: str, name: str, given: int | Sequence[int], count: int) -> tuple[int, ...]:
    sizes = (given,) * count if isinstance(given, int) else tuple(given)
    if len(sizes) != count:
        raise CompositionError(f"{kind} has {count} children and {len(sizes)} {name}")
    if any(size < 1 for size in sizes):
        raise CompositionError(f"{name} of {kind} are at least 1, not {list(sizes)}")
    return sizes


def _flat(children: Iterable[Any]) -> Iterator[Expression]:
    for child in children:
        if isinstance(child, (str, Composition)):
            yield child
        elif isinstance(child, (list, tuple)):
            yield from _flat(child)
        else:
            raise CompositionError(f"a composition holds names and compositions, not {child!r}")
