"""(IA)³ as ``adapters`` writes it: vectors by which outputs are multiplied, in the feed-forward before the
non-linearity.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.adapters.targets import PLAIN, fused_in_thirds, reached
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, to_theirs
from adapterhub.errors import CheckpointError
from adapterhub.methods.ia3 import IA3Config


def config(given: Mapping[str, Any]) -> IA3Config:
    """The configuration that acts as the ``given`` one."""
    usual = given.get("intermediate_lora") and set(given.get("attn_matrices", ())) == {"k", "v"}
    if not usual or given.get("output_lora") or given.get("use_gating") or given.get("alpha", 1) != 1:
        raise CheckpointError("an (IA)³ with options that have no equal here")
    return IA3Config(leave_out=tuple(given.get("leave_out") or ()), feed_forward="output")


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    assert isinstance(content.config, IA3Config)
    if content.config.feed_forward != "output":
        raise CheckpointError(
            "the (IA)³ of adapters scales the feed-forward before its non-linearity, that of the paper after it "
            "(feed_forward='input'). Save in the format of adapterhub or of PEFT."
        )
    kind = {"composition_mode": "scale", "init_weights": "ia3"}
    options = reached(content.sites("scale"), layout) | PLAIN | kind
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    sites = content.sites("scale")
    for path in dict.fromkeys(layout.weights[site].path for site in sites):
        here = [layout.weights[site] for site in sites if layout.weights[site].path == path]
        fused_in_thirds(here, layout)
        names = tuple(f"{place.name}.scale" for place in sorted(here, key=lambda place: "qkv".find(place.role)))
        yield _column(f"{path}.loras.{ANY}.lora_B", names, [len(content.tensors[name]) for name in names])


def _column(key: str, names: tuple[str, ...], sizes: list[int]) -> Entry:
    return Entry(
        key, names, lambda tensor: tensor.flatten().split(sizes), lambda tensors: torch.cat(list(tensors))[:, None]
    )
