"""The tensors of a foreign format and those of this library, each named by the other: one list for both directions."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapterhub.errors import TensorMismatchError
from adapterhub.methods import AdapterConfig
from adapterhub.methods.union import ConfigUnion

_LISTED = 5


@dataclass(frozen=True)
class Content:
    """A configuration and the tensors that go with it, by their names in this library."""

    config: AdapterConfig
    tensors: Mapping[str, Tensor]

    def members(self) -> Iterator[tuple[str, "Content"]]:
        """Each of a union's configurations with its own tensors, and what their names begin with in the union."""
        assert isinstance(self.config, ConfigUnion)
        for index, config in enumerate(self.config.configs):
            yield f"{index}.", Content(config, under(f"{index}.", self.tensors))

    def sites(self, *leaves: str) -> list[str]:
        """The sites that have a tensor of one of these names, in order."""
        ends = tuple(f".{leaf}" for leaf in leaves)
        return list(dict.fromkeys(name.rpartition(".")[0] for name in self.tensors if name.endswith(ends)))


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _as_it_is(tensor: Tensor) -> Sequence[Tensor]:
    return (tensor,)


def _the_one(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]


@dataclass(frozen=True)
class Entry:
    """One tensor of a file under ``key``, and those of ours that are in it.

    ``split`` takes it apart, ``join`` puts it together; without them it is one of ours, as it is.
    """

    key: str
    names: tuple[str, ...]
    split: Callable[[Tensor], Sequence[Tensor]] = field(default=_as_it_is, compare=False)
    join: Callable[[Sequence[Tensor]], Tensor] = field(default=_the_one, compare=False)


def same(key: str, name: str) -> Entry:
    """A tensor that is as it is here."""
    return Entry(key, (name,))


def shaped(key: str, name: str, theirs: Sequence[int], ours: Sequence[int]) -> Entry:
    """A tensor that has another shape there."""
    return Entry(key, (name,), lambda tensor: (tensor.reshape(*ours),), lambda tensors: tensors[0].reshape(*theirs))


def stacked(key: str, names: Sequence[str], sizes: Sequence[int]) -> Entry:
    """Tensors that stand there one after another along their first dimension."""
    if len(names) == 1:
        return same(key, names[0])
    return Entry(key, tuple(names), lambda tensor: tensor.split(list(sizes)), lambda tensors: torch.cat(list(tensors)))


def from_theirs(entries: Iterable[Entry], found: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors of a file by their names here.

    Raises:
        TensorMismatchError: listing those that are missing, left over, or cannot be taken apart.
    """
    wanted = {entry.key: entry for entry in entries}
    missing = [key for key in wanted if key not in found]
    left_over = [key for key in found if key not in wanted]
    problems = [
        f"{len(keys)} {title}: {', '.join(keys[:_LISTED])}{' and more' if len(keys) > _LISTED else ''}"
        for title, keys in (("missing from the checkpoint", missing), ("left over in the checkpoint", left_over))
        if keys
    ]
    if problems:
        raise TensorMismatchError(
            f"{what} does not fit this model. Tensors {'; '.join(problems)}. Load the base model that it was made for."
        )
    made: dict[str, Tensor] = {}
    for key, entry in wanted.items():
        try:
            made |= zip(entry.names, entry.split(found[key]), strict=True)
        except (RuntimeError, ValueError) as error:
            raise TensorMismatchError(
                f"{what}: the tensor {key} is of another shape, {list(found[key].shape)}, than this model has"
            ) from error
    return made


def to_theirs(entries: Iterable[Entry], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, from those here."""
    return {entry.key: entry.join([tensors[name].detach().cpu() for name in entry.names]) for entry in entries}


def alignment(
    there: Iterable[str], here: Collection[str], known: Callable[[str], bool] | None = None
) -> Callable[[str], str]:
    """What makes paths of modules in a checkpoint those of this model.

    The model that it was made from may have had a head around what this one is, or the other way: then paths begin with
    the name of the base model in one of them. Of all such changes the one is taken by which most paths are ``known``.
    """
    paths = set(there)
    fits = known or set(here).__contains__
    strips = ["", *sorted({path.partition(".")[0] + "." for path in paths})]
    adds = ["", *sorted({path.partition(".")[0] + "." for path in here})]
    changes = [(strip, add) for strip in strips for add in adds]
    strip, add = max(changes, key=lambda change: sum(fits(change[1] + path.removeprefix(change[0])) for path in paths))
    return lambda path: add + path.removeprefix(strip)
