"""VeRA as PEFT writes it: with its shared matrices, or with the seed that they are drawn from."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout, shortest, simplest
from adapterhub.errors import CheckpointError
from adapterhub.methods.vera import VeraConfig

OWNER = re.compile(r"(?P<path>.+?)\.vera_lambda_[bd]")
_SHARED = ("vera_A", "vera_B")


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return OWNER.fullmatch(key) is not None or key in _SHARED


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> VeraConfig:
    """The configuration that acts as the ``given`` one."""
    paths = {match["path"] for match in map(OWNER.fullmatch, found) if match is not None}
    made = VeraConfig(
        target_modules=tuple(sorted(paths)),
        r=given.get("r", 256),
        vera_d=given.get("d_initial", 0.1),
        dropout=given.get("vera_dropout", 0.0),
    )
    if given.get("bias", "none") != "none":
        raise CheckpointError(
            f"it changes biases of the base model (bias={given['bias']!r}), which a VeRA has not here"
        )
    short = made.replace(target_modules=shortest(given.get("target_modules"), paths))
    return simplest((short,), made, layout.places)


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    if not given.get("save_projection", True):
        shapes = [content.tensors[f"shared.{name}"].shape for name in _SHARED]
        drawn = _drawn(given.get("projection_prng_key", 0), shapes)
        found = {**found, **dict(zip(_SHARED, drawn, strict=True))}
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    made = content.config
    assert isinstance(made, VeraConfig)
    places = [layout.by_name[site] for site in content.sites("vera_lambda_d")]
    if made.use_dora or not all(place.whole for place in places):
        what = "VeRA with use_dora" if made.use_dora else "VeRA of a part of a fused weight"
        raise CheckpointError(f"PEFT has no {what}: convert the adapter to a LoRA first")
    options = {
        "peft_type": "VERA",
        "r": made.r,
        "d_initial": made.vera_d,
        "vera_dropout": made.dropout,
        "projection_prng_key": 0,
        "save_projection": True,
        "bias": "none",
        "target_modules": layout.targets(place.path for place in places),
    }
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    yield from (same(name, f"shared.{name}") for name in _SHARED)
    for site in content.sites("vera_lambda_d"):
        for leaf in ("vera_lambda_b", "vera_lambda_d"):
            yield same(f"{layout.by_name[site].path}.{leaf}", f"{site}.{leaf}")


def _drawn(seed: int, shapes: list[torch.Size]) -> list[Tensor]:
    """Kaiming-uniform matrices, one after another from one seed."""
    generator = torch.Generator().manual_seed(seed)
    bounds = [math.sqrt(3.0) * math.sqrt(2.0) / math.sqrt(shape[1]) for shape in shapes]
    return [
        torch.empty(shape).uniform_(-bound, bound, generator=generator)
        for shape, bound in zip(shapes, bounds, strict=True)
    ]
