"""VeRA as ``adapters`` writes it: B0 and A0 for all weights, and matrices B and D in place of the two vectors."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.adapters.targets import PLAIN, SHARED, reached, targets
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.errors import CheckpointError
from adapterhub.methods.vera import VeraConfig

_DOWN, _UP = (f"{SHARED}{name}" for name in "AB")
_SAME = ("selfattn_lora", "intermediate_lora", "output_lora", "leave_out", "r", "dropout")


def is_exact(given: Mapping[str, Any], found: Mapping[str, Tensor]) -> bool:
    """Whether it is a VeRA as in the paper: matrices that hold nothing beside their diagonals."""
    matrices = [tensor for key, tensor in found.items() if key.endswith((".vera_B", ".vera_D"))]
    plain = not given.get("use_dora") and not given.get("use_gating") and given.get("alpha") == given.get("r")
    return plain and bool(matrices) and all(torch.equal(one, one.diagonal().diag()) for one in matrices)


def config(given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout) -> VeraConfig:
    """The configuration that acts as the ``given`` one."""
    options = {name: given[name] for name in (*_SAME, "vera_d", "vera_b") if given.get(name) is not None}
    matrices = tuple(role for role in "qkv" if role in given["attn_matrices"])
    return targets(VeraConfig(**options, attn_matrices=matrices or ("q",)), found, layout)[1]


def multiplied(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a VeRA as those of a LoRA: B B0 and D A0. Those of a LoRA stay as they are."""
    if _DOWN not in found or _UP not in found:
        return dict(found)
    made = {}
    for key, tensor in found.items():
        stem, _, leaf = key.rpartition(".")
        if leaf == "vera_B":
            made[f"{stem}.lora_B"] = tensor @ found[_UP]
        elif leaf == "vera_D":
            made[f"{stem}.lora_A"] = tensor @ found[_DOWN]
        elif key not in (_DOWN, _UP):
            made[key] = tensor
    return made


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    made = content.config
    assert isinstance(made, VeraConfig)
    sites = content.sites("vera_lambda_d")
    shared = len(content.tensors["shared.vera_B"]), content.tensors["shared.vera_A"].shape[1]
    shapes = [place.weight.shape for site in sites if (place := layout.weights[site]).weight is not None]
    alone = all(layout.weights[site].whole for site in sites)
    if made.use_dora or not alone or any(shape != shared for shape in shapes):
        raise CheckpointError(
            "the VeRA of adapters is for weights of one shape that stand alone, without use_dora. Convert the adapter "
            "to a LoRA first, or save it in the format of adapterhub."
        )
    kind = {
        "r": made.r,
        "alpha": made.r,
        "dropout": made.dropout,
        "init_weights": "vera",
        "init_weights_seed": made.init_weights_seed,
        "vera_d": made.vera_d,
        "vera_b": made.vera_b,
    }
    options = reached(sites, layout) | PLAIN | kind
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    yield same(_DOWN, "shared.vera_A")
    yield same(_UP, "shared.vera_B")
    for site in content.sites("vera_lambda_d"):
        stem = f"{layout.weights[site].path}.loras.{ANY}"
        yield _diagonal(f"{stem}.vera_D", f"{site}.vera_lambda_d")
        yield _diagonal(f"{stem}.vera_B", f"{site}.vera_lambda_b")


def _diagonal(key: str, name: str) -> Entry:
    return Entry(key, (name,), lambda tensor: (tensor.diagonal(),), lambda tensors: tensors[0].diag())
