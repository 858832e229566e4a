"""A plan: a composition compiled for one model, so that a forward pass only looks up what to run where."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from adapterhub.composition import Composition
from adapterhub.engine.adapter import Adapter
from adapterhub.engine.named import NamedModules
from adapterhub.errors import AdapterNotFoundError
from adapterhub.sites import Sites


@dataclass(frozen=True, eq=False)
class Plan:
    """For each sublayer (by name) the modules to run after it; for each norm (by path) the one that replaces it."""

    setup: Composition
    skip_layers: frozenset[int]
    sublayers: Mapping[str, tuple[nn.Module, ...]]
    norms: Mapping[str, nn.Module]


def compile_plan(
    setup: Composition, adapters: "NamedModules[Adapter]", sites: Sites, skip_layers: Iterable[int] = ()
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
    return Plan(setup, skipped, sublayers, norms)


def _parts(adapters: Iterable[Adapter], site: str) -> tuple[nn.Module, ...]:
    return tuple(part for adapter in adapters if (part := adapter.at(site)) is not None)


def _in_order(setup: Composition) -> list[str]:
    names: list[str] = []
    for child in setup:
        names += [child] if isinstance(child, str) else _in_order(child)
    return names
