"""An adapter: one module that holds a configuration and all its parameters, addressed by site."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from adapterhub.engine.weights import weight_places
from adapterhub.errors import ConfigError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.sites import Sites

EMBEDDINGS = "embeddings"


class SiteModules(nn.Module):
    """Modules addressed by site: ``at("layers.3.feed_forward")`` is the one at that site."""

    def __init__(self, name: str, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.name = name
        for path, part in parts.items():
            self._attach(path, part)
        self.site_names = tuple(parts)
        self._here = frozenset(parts)

    def _attach(self, path: str, part: nn.Module) -> None:
        *parents, last = path.split(".")
        parent: nn.Module = self
        for name in parents:
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(last, part)

    def at(self, site: str) -> nn.Module | None:
        """The module at a site, or None where there is none."""
        return self.get_submodule(site) if site in self._here else None


class Adapter(SiteModules):
    """The modules of one adapter."""

    def __init__(self, name: str, config: AdapterConfig, places: Iterable[Place]) -> None:
        """Build a module for every place where ``config`` acts.

        Raises:
            ConfigError: if it acts at none of them.
        """
        offered = tuple(places)
        config.check(offered)
        made = config.modules(offered)
        if not made.parts:
            raise ConfigError(f"adapter {name!r} would act nowhere in this model: {config}")
        super().__init__(name, made.parts)
        self.config = config
        self.shared = made.shared


def places(model: PreTrainedModel, sites: Sites) -> Iterator[Place]:
    """Every place that ``model`` offers to a method, in running order."""
    for sublayer in sites.sublayers:
        yield Place("sublayer", sublayer.name, sublayer.kind, sublayer.layer, sublayer.width)
    for norm in sites.norms:
        module = model.get_submodule(norm.path)
        width = next((parameter.numel() for parameter in module.parameters()), 0)
        yield Place("norm", norm.name, "norm", norm.layer, width, module)
    if sites.embeddings is not None:
        yield Place("embeddings", EMBEDDINGS, EMBEDDINGS, None, sites.embeddings.width)
    yield from weight_places(model, sites)


def match_device(added: SiteModules, model: PreTrainedModel, sites: Sites, weights: Iterable[Place]) -> None:
    """Move each module of ``added`` to the device of the base module that it follows; halves become float32.

    An adapter of a half-precision base keeps full-precision parameters, which training needs (its result is cast).
    """
    paths = {sublayer.name: sublayer.output_at for sublayer in sites.sublayers}
    paths |= {norm.name: norm.path for norm in sites.norms}
    paths |= {place.name: place.path for place in weights if place.weight is not None}
    if sites.embeddings is not None:
        paths[EMBEDDINGS] = sites.embeddings.table
    for site in added.site_names:
        nearest = _nearest_parameter(model, paths[site])
        added.get_submodule(site).to(device=nearest.device, dtype=torch.float32)
    shared = getattr(added, "shared", None)
    if shared is not None:
        shared.to(device=model.device, dtype=torch.float32)


def _nearest_parameter(model: nn.Module, path: str) -> torch.Tensor:
    """A parameter of the module at ``path``, or of the closest module around it that has one."""
    while path:
        parameter = next(model.get_submodule(path).parameters(), None)
        if parameter is not None:
            return parameter
        path = path.rpartition(".")[0]
    return next(model.parameters())
