"""Prefix tuning as ``adapters`` writes it: one matrix holds keys and values of one layer after another."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, stacked, to_theirs
from adapterhub.engine.locations import prefix_kind
from adapterhub.errors import CheckpointError
from adapterhub.methods import Place
from adapterhub.methods.prefix import PrefixTuningConfig, prefix_location

_RELATIVE = ("t5", "mt5")


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout, about: Mapping[str, Any]
) -> PrefixTuningConfig:
    """The configuration that acts as the ``given`` one."""
    options = {name: value for name, value in given.items() if name != "architecture"}
    made = PrefixTuningConfig.from_dict(options | {"prefix_in_position_bias": layout.model_type in _RELATIVE})
    _check_towers(made, layout)
    return made


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    made = cast(PrefixTuningConfig, content.config)
    given = asdict(made) | {"architecture": "prefix_tuning"}
    if given.pop("shift_positions"):
        raise CheckpointError(
            "adapters has no prefix that moves the positions of the text (shift_positions): save in the format of PEFT"
        )
    if given.pop("prefix_in_position_bias") != (layout.model_type in _RELATIVE):
        raise CheckpointError(
            f"a prefix with prefix_in_position_bias={made.prefix_in_position_bias}: in {' and '.join(_RELATIVE)}, and "
            "there alone, adapters moves the distances between tokens of the text by the length of the prefix. Train "
            f"one for {layout.model_type} with prefix_in_position_bias={not made.prefix_in_position_bias}, or save in "
            "the format of adapterhub"
        )
    _check_towers(made, layout)
    names = made.leave_out
    left_out = [layer.index for layer in layout.sites.layers if layer.index in names or layer.tower in names]
    return given | {"leave_out": left_out}, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    places = [place for place in layout.places if _acts(place, content)]
    for location in dict.fromkeys(prefix_kind(place) for place in places):
        here = [place for place in places if prefix_kind(place) == location]
        stem, shared = f"prefix_tuning.prefix_tunings.{ANY}.{location}", f"shared.{prefix_location(here[0])}"
        if f"{here[0].name}.prefix" in content.tensors:
            yield _flat(f"{stem}.control_trans", [f"{place.name}.prefix" for place in here], content)
            continue
        yield same(f"{stem}.wte.weight", f"{shared}.wte.weight")
        for leaf in ("weight", "bias"):
            names = [f"{place.name}.linear.{leaf}" for place in here]
            yield same(f"{stem}.control_trans.0.{leaf}", f"{shared}.linear.{leaf}")
            yield stacked(f"{stem}.control_trans.2.{leaf}", names, [len(content.tensors[name]) for name in names])
    for place in places:
        for leaf in ("weight", "bias"):
            if (name := f"{place.name}.gate.{leaf}") in content.tensors:
                attention = layout.sublayers[place.name.removesuffix(".prefix")].attention
                assert attention is not None
                yield same(f"{attention.path}.prefix_tuning.prefix_gates.{ANY}.{leaf}", name)


def _flat(key: str, names: list[str], content: Content) -> Entry:
    length = len(content.tensors[names[0]])
    sizes = [content.tensors[name].shape[1] for name in names]
    return Entry(
        key,
        tuple(names),
        lambda tensor: tensor.view(length, -1).split(sizes, dim=1),
        lambda tensors: torch.cat(list(tensors), dim=1).flatten(),
    )


def _acts(place: Place, content: Content) -> bool:
    return any(f"{place.name}.{leaf}" in content.tensors for leaf in ("prefix", "linear.weight"))


def _check_towers(config: PrefixTuningConfig, layout: Layout) -> None:
    """Pass a prefix of which ``adapters`` keeps the position bias.

    Raises:
        CheckpointError: for one at some layers of a tower of T5 alone, where it does not.
    """
    if layout.model_type not in _RELATIVE:
        return
    attentions = [place for place in layout.places if place.kind == "attention" and place.role == "keys_values"]
    for tower in {place.tower for place in attentions}:
        acts = {config.acts_at(place, layout.places) for place in attentions if place.tower == tower}
        if len(acts) > 1:
            raise CheckpointError(
                f"a prefix at some layers of the {tower} of {layout.model_type} alone (leave_out={config.leave_out}): "
                "adapters computes without any position bias from the first layer on where one begins or ends. One "
                "at all of its layers, or at none, is read and written"
            )
