"""ReFT as ``adapters`` writes it: its rows are made orthonormal by torch there, and kept as they are here."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import orthogonal

from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.errors import CheckpointError
from adapterhub.methods.reft import ReftConfig

logger = logging.getLogger(__name__)

_ORIGINAL, _BASE = "projection.parametrizations.weight.original", "projection.parametrizations.weight.0.base"


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout, about: Mapping[str, Any]
) -> ReftConfig:
    """The configuration that acts as the ``given`` one."""
    names = {field.name for field in fields(ReftConfig)}
    made = ReftConfig.from_dict({name: value for name, value in given.items() if name in names})
    if not made.orthogonality and "subtract_projection" not in given:
        logger.warning("adapters does not save whether an adapter is a NoReFT or a DiReFT; taken for NoReFT")
    return made


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    plain = {key: tensor for key, tensor in found.items() if not key.endswith((_ORIGINAL, _BASE))}
    for key in found:
        if key.endswith(_ORIGINAL):
            stem = key.removesuffix(_ORIGINAL)
            plain[f"{stem}projection.weight"] = _orthonormal(found[key], found.get(f"{stem}{_BASE}"))
    unused = _unused(content)  # there are two maps there also where one of them has no positions
    used = {key: tensor for key, tensor in plain.items() if unused is None or f".{ANY}.units.{unused}." not in key}
    return from_theirs(entries(content, layout), used, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    given = asdict(content.config)
    tensors = to_theirs(entries(content, layout), content.tensors)
    if not given.pop("subtract_projection"):
        if given["non_linearity"] is not None or given["orthogonality"]:
            raise CheckpointError(
                "adapters does not save subtract_projection=False: a DiReFT with a non_linearity or orthonormal rows "
                "comes back as another method. Save in the format of adapterhub."
            )
        for key in [key for key in tensors if key.endswith("learned_source.weight")]:  # W h + b = (W + R) h + b - R h
            tensors[key] = tensors[key] + tensors[key.replace("learned_source", "projection")]
    unused = _unused(content)
    if unused is not None:
        tensors |= {key.replace(f".units.{1 - unused}.", f".units.{unused}."): one for key, one in tensors.items()}
    if given["orthogonality"]:
        for key in [key for key in tensors if key.endswith("projection.weight")]:
            original, base = _parametrised(tensors.pop(key))
            stem = key.removesuffix("projection.weight")
            tensors |= {f"{stem}{_ORIGINAL}": original, f"{stem}{_BASE}": base}
    if given.pop("leave_out") or given["layers"] != "all":
        names = {name.partition(".output.")[0] for name in content.tensors}
        given["layers"] = [layer.index for layer in layout.sites.layers if layer.name in names]
    return given | {"architecture": "reft", "dtype": None, "output_reft": True}, tensors


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    moved = _unused(content) == 0
    for name in content.tensors:
        site, _, leaf = name.partition(".output.")
        leaf = leaf.replace("units.0.", "units.1.") if moved else leaf
        leaf = f"{leaf}.weight" if leaf.endswith(".projection") else leaf
        yield same(f"{layout.layer(site)}.reft_layer.refts.{ANY}.{leaf}", name)


def _unused(content: Content) -> int | None:
    """Which of the two maps has no positions."""
    made = content.config
    assert isinstance(made, ReftConfig)
    if made.tied_weights:
        return None
    return 0 if not made.prefix_positions else 1 if not made.suffix_positions else None


@torch.no_grad()
def _orthonormal(original: Tensor, base: Tensor | None) -> Tensor:
    """The matrix that torch's orthogonal parametrisation makes of its parameters."""
    linear = torch.nn.Linear(original.shape[1], original.shape[0], bias=False)
    orthogonal(linear, use_trivialization=base is not None)
    state = {"parametrizations.weight.original": original}
    linear.load_state_dict(state | ({} if base is None else {"parametrizations.weight.0.base": base}))
    return linear.weight.detach().clone()


@torch.no_grad()
def _parametrised(rotation: Tensor) -> tuple[Tensor, Tensor]:
    """The parameters of which torch's orthogonal parametrisation makes a matrix, which is one already."""
    linear = torch.nn.Linear(rotation.shape[1], rotation.shape[0], bias=False)
    linear.weight.copy_(rotation)
    orthogonal(linear)
    state = linear.state_dict()
    return state["parametrizations.weight.original"], state["parametrizations.weight.0.base"]
