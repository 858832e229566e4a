"""An adapter: one module that holds a configuration and all its parameters, addressed by site."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from adapterhub.engine.experts import expert_places
from adapterhub.engine.stored import device_of
from adapterhub.engine.tokens import ModelVocabulary
from adapterhub.engine.weights import weight_places
from adapterhub.errors import ConfigError
from adapterhub.methods import AdapterConfig, Modules, Place
from adapterhub.methods.prefix import Prefix, PrefixTuningConfig
from adapterhub.sites import Embeddings, Layer, Sites, Sublayer, is_decoder

EMBEDDINGS, PROMPT, DECODER_PROMPT = "embeddings", "prompt", "decoder_prompt"
T = TypeVar("T")


class SiteModules(nn.Module):
    """Modules addressed by site: ``at("layers.3.feed_forward")`` is the one at that site.

    The ``members`` of a union are kept one beside the other, each under its number.
    """

    def __init__(self, name: str, modules: Modules) -> None:
        super().__init__()
        self.name = name
        self._paths: dict[str, tuple[str, ...]] = {}
        for prefix, member in [("", modules), *((f"{index}.", one) for index, one in enumerate(modules.members))]:
            for site, part in member.parts.items():
                self._attach(prefix + site, part)
                self._paths[site] = (*self._paths.get(site, ()), prefix + site)
            if member.shared is not None:
                self._attach(f"{prefix}shared", member.shared)

    def _attach(self, path: str, part: nn.Module) -> None:
        *parents, last = path.split(".")
        parent: nn.Module = self
        for name in parents:
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(last, part)

    @property
    def site_names(self) -> tuple[str, ...]:
        """The sites where it acts."""
        return tuple(self._paths)

    def parts(self, site: str) -> tuple[nn.Module, ...]:
        """The modules that act at a site, one after another: several in a union, and none where there is none."""
        return tuple(self.get_submodule(path) for path in self._paths.get(site, ()))

    def at(self, site: str) -> nn.Module | None:
        """The module at a site, the first one of a union, or None where there is none."""
        found = self.parts(site)
        return found[0] if found else None

    def shared_modules(self) -> list[nn.Module]:
        """What the modules at several sites have in common."""
        return [module for path, module in self.named_modules() if path.rpartition(".")[2] == "shared"]


class Adapter(SiteModules):
    """The modules of one adapter; ``group`` is the name of those that it shares parameters with, if it does."""

    def __init__(self, name: str, config: AdapterConfig, places: Iterable[Place]) -> None:
        """Build a module for every place where ``config`` acts.

        Raises:
            ConfigError: if it acts at none of them.
        """
        offered = tuple(places)
        config.check(offered)
        config = config.resolved(offered)
        super().__init__(name, config.modules(offered))
        if not self.site_names:
            raise ConfigError(f"adapter {name!r} would act nowhere in this model: {config}")
        self.config = config
        self.group = ""
        self.vocabulary = next(filter(None, (self._tokens(place) for place in offered)), None)

    def _tokens(self, place: Place) -> int | None:
        """The number of tokens that a part of this adapter is fitted to, at a table of embeddings."""
        if place.role != "embedding" or place.weight is None:
            return None
        tokens = place.weight.shape[1]
        shapes = [parameter.shape for part in self.parts(place.name) for parameter in part.parameters()]
        return tokens if any(tokens in shape for shape in shapes) else None


@torch.no_grad()
def ejected(adapter: Adapter, build: Callable[[str, AdapterConfig], Adapter]) -> Adapter:
    """The flat equal of a reparametrised prefix tuning.

    Raises:
        ConfigError: if the adapter is no prefix tuning.
    """
    if not isinstance(adapter.config, PrefixTuningConfig):
        raise ConfigError(f"adapter {adapter.name!r} is no prefix tuning, but {adapter.config.method}")
    flat = build(adapter.name, adapter.config.replace(flat=True)).to(next(adapter.parameters()).dtype)
    for site in flat.site_names:
        for made, own in zip(flat.parts(site), adapter.parts(site), strict=True):
            if isinstance(made, Prefix) and isinstance(own, Prefix) and made.prefix is not None:
                made.prefix.copy_(own.keys_values())
                made.load_state_dict(own.state_dict(), strict=False)  # gates
    return flat


def layer_site(layer: Layer) -> str:
    """The name of the residual stream after a layer."""
    return f"{layer.name}.output"


def side_site(layer: Layer) -> str:
    """The name of the place beside a layer."""
    return f"{layer.name}.side"


def prefix_site(sublayer: Sublayer) -> str:
    """The name of the place where the attention of a sublayer reads keys and values."""
    return f"{sublayer.name}.prefix"


def prompt_sites(sites: Sites) -> dict[str, Embeddings]:
    """Where prompts can come among the tokens that a model reads, by the names of these places."""
    found = {PROMPT: sites.embeddings, DECODER_PROMPT: sites.decoder_embeddings}
    return {name: site for name, site in found.items() if site is not None and site.reader is not None}


def held_by(place: Place) -> str:
    """The path of the module that holds the weight of a place."""
    return place.path if place.expert_weight is None else place.path.rpartition(".")[0]


def places(model: PreTrainedModel, sites: Sites) -> Iterator[Place]:
    """Every place that ``model`` offers to a method, in running order."""
    paths = {norm.name: norm.path for norm in sites.norms}
    if sites.embeddings is not None:
        paths[EMBEDDINGS] = sites.embeddings.table
    towers = {f"{sites.tower_path(tower)}.": tower for tower in sites.towers if tower}
    for place in _all_places(model, sites):
        path = f"{place.path or paths.get(place.name, '')}."
        outside = next((tower for start, tower in towers.items() if path.startswith(start)), "")
        yield replace(place, tower=outside if place.layer is None else sites.layers[place.layer].tower)


def _all_places(model: PreTrainedModel, sites: Sites) -> Iterator[Place]:
    for sublayer in sites.sublayers:
        yield Place("sublayer", sublayer.name, sublayer.kind, sublayer.layer, sublayer.width)
        if (at := sublayer.attention) is not None:
            heads = (at.heads, at.key_width, at.value_width)
            role = "cross_keys_values" if sublayer.kind == "cross_attention" else "keys_values"
            yield Place("attention", prefix_site(sublayer), role, sublayer.layer, sublayer.width, heads=heads)
    for norm in sites.norms:
        module = model.get_submodule(norm.path)
        width = next((parameter.numel() for parameter in module.parameters()), 0)
        yield Place("norm", norm.name, "norm", norm.layer, width, module, norm.path)
    for layer in sites.layers:
        if layer.sublayers and layer.width:
            yield Place("layer", layer_site(layer), "layer", layer.index, layer.width)
            yield Place("side", side_site(layer), "side", layer.index, layer.width, causal=is_decoder(model.config))
    if sites.embeddings is not None:
        yield Place("embeddings", EMBEDDINGS, EMBEDDINGS, None, sites.embeddings.width)
    readers = {name: model.get_submodule(site.reader or "") for name, site in prompt_sites(sites).items()}
    for name, site in prompt_sites(sites).items():
        encoder = readers[PROMPT] if name == DECODER_PROMPT else None
        vocabulary = ModelVocabulary(model, readers[name], encoder)
        yield Place("prompt", name, name, None, site.width, vocabulary=vocabulary)
    yield from weight_places(model, sites)
    yield from expert_places(model, sites)


def site_paths(sites: Sites, weights: Iterable[Place]) -> dict[str, str]:
    """The path of the base module at every site, those of ``weights`` included."""
    paths = {sublayer.name: sublayer.output_at for sublayer in sites.sublayers}
    paths |= {prefix_site(sublayer): sublayer.output_at for sublayer in sites.sublayers}
    paths |= {site: layer.path for layer in sites.layers for site in (layer_site(layer), side_site(layer))}
    paths |= {norm.name: norm.path for norm in sites.norms}
    paths |= {place.name: held_by(place) for place in weights if place.any_weight is not None}
    if sites.embeddings is not None:
        paths[EMBEDDINGS] = sites.embeddings.table
    paths |= {name: site.table for name, site in prompt_sites(sites).items()}
    return paths


def match_device(added: SiteModules, model: PreTrainedModel, sites: Sites, weights: Iterable[Place]) -> None:
    """Move each module of ``added`` to the device of the base module that it follows; halves become float32.

    An adapter of a half-precision base keeps full-precision parameters, which training needs (its result is cast).
    """
    paths = site_paths(sites, weights)
    devices = {site: nearest(model, paths[site], device_of) for site in added.site_names}
    for site, device in devices.items():
        for part in added.parts(site):
            part.to(device=device, dtype=torch.float32)
    for shared in added.shared_modules():
        shared.to(device=next(iter(devices.values())), dtype=torch.float32)


def nearest(model: nn.Module, path: str, look: Callable[[nn.Module], T | None]) -> T | None:
    """What ``look`` finds in the module at ``path``, or in the closest module around it in which it finds anything."""
    while path:
        if (found := look(model.get_submodule(path))) is not None:
            return found
        path = path.rpartition(".")[0]
    return look(model)
