"""Adapters put into the weights of the base model, and taken out again."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterhub.engine import Adapter
from adapterhub.engine.adapter import held_by
from adapterhub.engine.stored import is_packed
from adapterhub.errors import MergeError
from adapterhub.methods import Mergeable, MergeableNorm, Place

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin

# The parameters of a module, by its path, as they were.
Originals = dict[str, dict[str, Tensor]]


def modules_changed(model: "AdapterMixin", name: str) -> set[str]:
    """The paths of the modules whose parameters ``merge`` writes to.

    Raises:
        AdapterNotFoundError, MergeError: as ``merge``.
    """
    norms = {norm.name: norm.path for norm in model.sites.norms}
    return {held_by(place) or norms[place.name] for place, _ in _parts(model, model.engine.get(name))}


@torch.no_grad()
def merge(model: "AdapterMixin", name: str) -> Originals:
    """Write what an adapter comes to into the weights and norms of the base model; returns what was there.

    Raises:
        AdapterNotFoundError: if there is no such adapter.
        MergeError: if the adapter acts on more than weights and norms, or one that it changes is shared or packed.
        ConfigError: if its options make it impossible.
    """
    parts = list(_parts(model, model.engine.get(name)))
    originals: Originals = {}
    paths = {norm.name: norm.path for norm in model.sites.norms}
    try:
        for place, part in parts:
            path = held_by(place) or paths[place.name]
            if path not in originals:
                own = model.get_submodule(path).named_parameters(recurse=False)
                originals[path] = {key: parameter.detach().clone() for key, parameter in own}
            _put(place, part)
    except BaseException:  # all of it is merged, or none is
        unmerge(model, originals)
        raise
    return originals


@torch.no_grad()
def unmerge(model: "AdapterMixin", originals: Originals) -> None:
    """Put back what ``merge`` returned, to the bit."""
    for path, parameters in originals.items():
        own = dict(model.get_submodule(path).named_parameters(recurse=False))
        for key, value in parameters.items():
            own[key].copy_(value)


def _put(place: Place, part: nn.Module) -> None:
    """Write one part into the base model."""
    if (weight := place.any_weight) is not None and isinstance(part, Mergeable):
        weight.put(*part.merged(weight))
    elif place.norm is not None and isinstance(part, MergeableNorm):
        own = dict(place.norm.named_parameters(recurse=False))
        for key, value in part.merged_norm(place.norm).items():
            own[key].copy_(value)


def _parts(model: "AdapterMixin", adapter: Adapter) -> Iterator[tuple[Place, nn.Module]]:
    """What an adapter has at weights and norms that may be changed.

    Raises:
        MergeError: if it acts elsewhere too.
    """
    names: dict[int, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(path)
    for place in model.engine.places:
        for part in adapter.parts(place.name):
            if not isinstance(part, Mergeable if place.any_weight is not None else MergeableNorm):
                raise MergeError(
                    f"adapter {adapter.name!r} ({adapter.config.method}) cannot be merged: it acts at {place.name}, "
                    "not on a weight or a norm alone"
                )
            if place.any_weight is not None:
                _check_weight(model, adapter, place, part, names)
            yield place, part


def _check_weight(
    model: "AdapterMixin", adapter: Adapter, place: Place, part: nn.Module, names: Mapping[int, list[str]]
) -> None:
    name = f"{place.path}.weight" if place.expert_weight is None else place.path
    base: Any = getattr(model.get_submodule(held_by(place)), name.rpartition(".")[2], None)
    if isinstance(base, Tensor) and base.is_meta:
        raise MergeError(f"{place.path} is offloaded: load the model without offloading to merge an adapter into it")
    if not isinstance(base, Tensor) or is_packed(base):
        raise MergeError(
            f"{place.path} is quantised, and would be rounded again if adapter {adapter.name!r} were merged into it: "
            "merge into the model as it was before, and quantise that"
        )
    shared = [path for path in names.get(id(base), ()) if path != name]
    if shared:
        raise MergeError(
            f"{place.path} shares its weight with {', '.join(shared)}, which would change too if adapter "
            f"{adapter.name!r} were merged into it"
        )
    weight = place.any_weight
    if getattr(part, "bias", None) is not None and weight is not None and weight.bias is None:
        raise MergeError(f"adapter {adapter.name!r} has a bias at {place.path}, and the base model no place for it")
