"""Places by number of their layer and kind, as ``adapters`` names them: ``{0: {"output_adapter": ...}}``."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from adapterhub.methods import Place

T = TypeVar("T")
GLOBAL = -1  # the number of what belongs to no layer
_SUBLAYERS = {"attention": "mh_adapter", "cross_attention": "cross_adapter", "feed_forward": "output_adapter"}
_WEIGHTS = {
    **dict.fromkeys(("q", "k", "v", "qkv", "kv", "o"), "selfattn_lora"),
    **dict.fromkeys(("up", "gate", "gate_up"), "intermediate_lora"),
    "down": "output_lora",
}
_OTHERS = {"layer": "output_reft", "side": "side", "embeddings": "invertible", "norm": "norm"}
_OTHERS |= {"prompt": "prompt", "decoder_prompt": "decoder_prompt"}


def location(place: Place) -> tuple[int, str]:
    """The number of the layer (-1 for none) and the kind of a place."""
    layer = GLOBAL if place.layer is None else place.layer
    if place.kind == "sublayer":
        return layer, _SUBLAYERS[place.role]
    if place.kind in ("weight", "experts"):
        return layer, _WEIGHTS.get(place.role, f"{place.role}_lora")
    if place.kind == "attention":
        return layer, prefix_kind(place)
    return layer, _OTHERS[place.role]


def prefix_kind(place: Place) -> str:
    """What ``adapters`` calls the prefixes of a place."""
    if place.role == "cross_keys_values":
        return "cross_prefix"
    return "encoder_prefix" if place.name.startswith("encoder.") else "self_prefix"


def located(places: Iterable[Place], values: Mapping[str, T]) -> dict[int, dict[str, list[T]]]:
    """Values by layer and kind, all of those at one location in order.

    They are given by the names of places, with a number before each where there are several of one (a union).
    """
    known = {place.name: location(place) for place in places}
    found: dict[int, dict[str, list[T]]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        layer, kind = known[rest if first.isdigit() else name]
        found.setdefault(layer, {}).setdefault(kind, []).append(value)
    return dict(sorted(found.items()))


def attentions_of(places: Iterable[Place], found: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Attention of a fusion, ``[batch, seq, adapters]``; ``[batch, sites, seq, adapters]`` where several are at one."""
    return {
        layer: {kind: many[0] if len(many) == 1 else torch.stack(many, dim=1) for kind, many in kinds.items()}
        for layer, kinds in located(places, found).items()
    }


def attentions_at(
    places: Iterable[Place], sites: Iterable[str], found: Mapping[int, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``attentions_of`` gave, by the ``sites`` of a fusion again: ``[batch, seq, adapters]`` of each."""
    known = {place.name: location(place) for place in places}
    together: dict[tuple[int, str], list[str]] = {}
    for site in sites:
        layer, kind = known[site]
        if kind in found.get(layer, {}):
            together.setdefault((layer, kind), []).append(site)
    return {
        site: attention
        for (layer, kind), names in together.items()
        for site, attention in zip(names, _apart(found[layer][kind], len(names)), strict=True)
    }


def _apart(attention: Tensor, count: int) -> tuple[Tensor, ...]:
    return (attention,) if count == 1 else attention.unbind(1)


def gates_of(places: Iterable[Place], found: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """What gates came to, ``[batch]``; ``[batch, gates]`` where several are at one location."""
    return {
        layer: {kind: torch.cat([one.flatten(1) for one in many], dim=1).squeeze(1) for kind, many in kinds.items()}
        for layer, kinds in located(places, found).items()
    }
