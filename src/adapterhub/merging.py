"""Adapters put into the weights of the base model, and taken out again."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterhub.engine import Adapter
from adapterhub.errors import MergeError
from adapterhub.methods import Mergeable, Place, Weight

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

# A module's path, and what stood there: the weight and the bias.
Originals = dict[str, tuple[Tensor, Tensor | None]]


@torch.no_grad()
def merge(model: "AdapterMixin", name: str) -> Originals:
    """Write the weights that an adapter comes to into the base model; returns what was there, for ``unmerge``.

    Raises:
        AdapterNotFoundError: if there is no such adapter.
        MergeError: if the adapter acts on more than weights, or a weight that it changes is shared or packed.
        ConfigError: if its options make it impossible.
    """
    originals: Originals = {}
    # All of it can be, or none is.
    new = [(place, weight, part.merged(weight)) for place, weight, part in _parts(model, model.engine.get(name))]
    for place, weight, (matrix, bias) in new:
        module: Any = model.get_submodule(place.path)
        if place.path not in originals:
            old = getattr(module, "bias", None)
            originals[place.path] = (module.weight.detach().clone(), None if old is None else old.detach().clone())
        weight.put(matrix, bias)
    return originals


@torch.no_grad()
def unmerge(model: "AdapterMixin", originals: Originals) -> None:
    """Put back what ``merge`` returned, to the bit."""
    for path, (weight, bias) in originals.items():
        module: Any = model.get_submodule(path)
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)


def _parts(model: "AdapterMixin", adapter: Adapter) -> list[tuple[Place, Weight, Mergeable]]:
    """What an adapter has at weights that may be changed.

    Raises:
        MergeError: if it acts elsewhere too.
    """
    names: dict[int, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(path)
    parts: list[tuple[Place, Weight, Mergeable]] = []
    for place in model.engine.places:
        part = adapter.at(place.name)
        if part is None:
            continue
        if place.weight is None or not isinstance(part, Mergeable):
            raise MergeError(
                f"adapter {adapter.name!r} ({adapter.config.method}) cannot be merged: it acts at {place.name}, not on "
                "a weight alone"
            )
        parts.append((place, place.weight, part))
        base: Any = getattr(model.get_submodule(place.path), "weight", None)
        if not isinstance(base, Tensor) or not base.is_floating_point():
            raise MergeError(f"{place.path} is quantised: an adapter cannot be merged into it")
        shared = [path for path in names.get(id(base), ()) if path != f"{place.path}.weight"]
        if shared:
            raise MergeError(
                f"{place.path} shares its weight with {', '.join(shared)}, which would change too if adapter "
                f"{adapter.name!r} were merged into it"
            )
        if getattr(part, "bias", None) is not None and place.weight.bias is None:
            raise MergeError(f"adapter {adapter.name!r} has a bias at {place.path}, and the base model no place for it")
    return parts
