"""A plan: a composition compiled for one model, so that a forward pass only looks up what to run where."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from adapterhub.composition import Composition
from adapterhub.engine.adapter import Adapter
from adapterhub.engine.named import NamedModules
from adapterhub.errors import AdapterNotFoundError
from adapterhub.methods import Place, Weight
from adapterhub.sites import Sites


@dataclass(frozen=True, eq=False)
class Plan:
    """What to run where: after each sublayer (by name), in place of a norm (by path), around a module with a weight."""

    setup: Composition
    skip_layers: frozenset[int]
    sublayers: Mapping[str, tuple[nn.Module, ...]]
    norms: Mapping[str, nn.Module]
    weights: Mapping[str, "tuple[Step, ...]"]


@dataclass(frozen=True, eq=False)
class Step:
    """A module that acts on the input or the output of a base module, for the weight that it stands at."""

    part: nn.Module
    weight: Weight

    @property
    def on_input(self) -> bool:
        """Whether it changes what the base module reads, and not what it gives."""
        return getattr(self.part, "on_input", False)


def compile_plan(
    setup: Composition,
    adapters: "NamedModules[Adapter]",
    sites: Sites,
    places: Iterable[Place],
    skip_layers: Iterable[int] = (),
) -> Plan:
    """Compile ``setup``; no adapter acts in ``skip_layers`` (AdapterDrop, Rücklé et al. 2021).

    Raises:
        AdapterNotFoundError: if the setup names an adapter that is not there.
    """
    missing = sorted(setup.flatten() - set(adapters))
    if missing:
        known = ", ".join(adapters) or "none"
        raise AdapterNotFoundError(f"no adapter named {', '.join(missing)} in this model; it holds: {known}")
    skipped = frozenset(skip_layers)
    active = [adapters[name] for name in _in_order(setup)]
    sublayers = {
        site.name: parts
        for site in sites.sublayers
        if site.layer not in skipped and (parts := _parts(active, site.name))
    }
    norms = {
        norm.path: parts[-1]
        for norm in sites.norms
        if norm.layer not in skipped and (parts := _parts(active, norm.name))
    }
    weights: dict[str, tuple[Step, ...]] = {}
    for place in places:
        if place.weight is not None and place.layer not in skipped:
            steps = tuple(Step(part, place.weight) for part in _parts(active, place.name))
            weights |= {place.path: (*weights.get(place.path, ()), *steps)} if steps else {}
    return Plan(setup, skipped, sublayers, norms, weights)


def _parts(adapters: Iterable[Adapter], site: str) -> tuple[nn.Module, ...]:
    return tuple(part for adapter in adapters if (part := adapter.at(site)) is not None)


def _in_order(setup: Composition) -> list[str]:
    names: list[str] = []
    for child in setup:
        names += [child] if isinstance(child, str) else _in_order(child)
    return names
