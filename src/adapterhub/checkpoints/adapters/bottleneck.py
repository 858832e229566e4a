"""Bottleneck adapters, Compacter and invertible adapters as ``adapters`` writes them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters import targets
from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.errors import CheckpointError
from adapterhub.methods.bottleneck import BottleneckConfig

_INVERTIBLE, _SHARED = f"invertible_adapters.{ANY}.", f"shared_parameters.{ANY}."
_OPTIONS = {"attention": "mh_adapter", "cross_attention": "cross_adapter", "feed_forward": "output_adapter"}
_LEAVES = {"up_proj": "adapter_up", "norm_after": "adapter_norm_after"}
_OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
# Entries of 2020 that have other names since, or no meaning.
_BEFORE_NORM = ("gemma2", "gemma3_text")
_UNUSED = ("invertible_adapter", "type", "architecture")


def owns(key: str) -> bool:
    """Whether a tensor is that of a bottleneck."""
    return f".adapters.{ANY}." in key or (key.startswith((_INVERTIBLE, _SHARED)) and not targets.owns(key))


def stems(given: Mapping[str, Any], layout: Layout) -> set[str]:
    """What the keys of tensors begin with at the places that these options choose."""
    left_out = given.get("leave_out") or ()
    chosen = [one for one in layout.sublayers.values() if one.layer not in left_out and given.get(_OPTIONS[one.kind])]
    made = {f"{variant.bottleneck(one)}.adapters.{ANY}." for variant in layout.variants() for one in chosen}
    made |= {_INVERTIBLE} if given.get("inv_adapter") else set()
    return made | ({_SHARED} if given.get("phm_layer") else set())


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout, about: Mapping[str, Any]
) -> BottleneckConfig:
    """The configuration that acts as the ``given`` one."""
    _check(bool(given.get("mh_adapter")), layout)
    here = {field.name for field in fields(BottleneckConfig)}
    if strange := [name for name in given if name not in here and name not in _UNUSED]:
        raise CheckpointError(f"the adapter has options that are not known: {', '.join(strange)}")
    options = {name: value for name, value in given.items() if name in here and value is not None}
    if of_2020 := given.get("invertible_adapter"):
        options["inv_adapter"] = of_2020["block_type"]
        options["inv_adapter_reduction_factor"] = of_2020["reduction_factor"]
    if not any(key.startswith(_INVERTIBLE) for key in found):
        options.pop("inv_adapter", None)  # task adapters of 2020 may name one that they have not
    if "version" not in about:
        options["non_linearity"] = _OLD_ACTIVATIONS.get(options["non_linearity"], options["non_linearity"])
    return BottleneckConfig.from_dict(options)


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    lists = [list(entries(content, one)) for one in layout.variants()]
    best = max(lists, key=lambda listed: sum(entry.key in found for entry in listed))
    return from_theirs(best, found, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    assert isinstance(content.config, BottleneckConfig)
    _check(content.config.mh_adapter, layout)
    given = asdict(content.config)
    if given.pop("train_layer_norm"):
        raise CheckpointError(
            "adapters trains no layer norms of the base model (train_layer_norm): save in the format of adapterhub"
        )
    given["leave_out"] = layout.left_out(content.tensors)
    if given["inv_adapter"] is None:
        given["inv_adapter_reduction_factor"] = None
    if not isinstance(given["scaling"], str):
        given["scaling"] = float(given["scaling"])
    return given, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    down = f"adapter_down.{int(getattr(content.config, 'ln_before', False))}"
    for name in content.tensors:
        if name.startswith("embeddings."):
            yield same(f"{_INVERTIBLE}{name.removeprefix('embeddings.')}", name)
            continue
        if name.startswith("shared."):
            leaf = re.sub(r"^(down|up)\.W", r"W_\1", name.removeprefix("shared."))
            yield same(f"{_SHARED}{leaf}", name)
            continue
        sublayer, rest = layout.of_sublayer(name)
        assert sublayer is not None
        stem = f"{layout.bottleneck(sublayer)}.adapters.{ANY}"
        part, _, leaf = rest.partition(".")
        if part == "norm_before":  # kept there under two names
            yield same(f"{stem}.adapter_norm_before.{leaf}", name)
            yield same(f"{stem}.adapter_down.0.{leaf}", name)
            continue
        if part in ("down_proj", "up_proj") and leaf == "bias" and getattr(content.config, "phm_layer", False):
            leaf = "b"
        yield same(".".join(filter(None, (stem, {"down_proj": down, **_LEAVES}.get(part, part), leaf))), name)


def _check(mh_adapter: bool, layout: Layout) -> None:
    """Pass a model in which ``adapters`` puts bottlenecks where they are here.

    Raises:
        CheckpointError: for any other.
    """
    if layout.model_type in _BEFORE_NORM:
        raise CheckpointError(
            f"in {layout.model_type}, adapters puts bottlenecks before the norm of what a sublayer gives, and here "
            "they are after it, where the residual is added: what was trained in one gives something else in the other"
        )
    if layout.model_type == "albert" and mh_adapter:
        raise CheckpointError(
            "in albert, adapters takes the residual stream for the output of attention (mh_adapter): what was trained "
            "so gives something else here"
        )
