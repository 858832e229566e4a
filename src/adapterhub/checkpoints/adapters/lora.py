"""LoRA, DoRA and MTL-LoRA as ``adapters`` writes them; VeRA and (IA)³, which it takes for kinds of LoRA.

In its DoRA the output of the base module is scaled with its bias, and lengths are those of W + B A whatever the scaling
of the product: other magnitudes, and an offset in place of the bias, make the paper's DoRA of it, and give the same.
Its VeRA trains dense matrices in place of the two vectors: they make a LoRA, and a VeRA where they are diagonal.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.adapters import ia3, vera
from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.adapters.targets import PLAIN, fused_in_thirds, reached, targets
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, shaped, stacked, to_theirs
from adapterhub.checkpoints.lowrank import folded, product, written_out
from adapterhub.errors import CheckpointError
from adapterhub.methods import AdapterConfig
from adapterhub.methods.ia3 import IA3Config
from adapterhub.methods.lora import LoRAConfig
from adapterhub.methods.low_rank import lengths
from adapterhub.methods.mtl_lora import MTLLoRAConfig
from adapterhub.methods.vera import VeraConfig

logger = logging.getLogger(__name__)

_SHARED = ("selfattn_lora", "intermediate_lora", "output_lora", "leave_out", "r", "alpha", "dropout")
_OF_TASKS = ("n_up_projection", "task_specific_matrix_type", "weights_sharpness")
_LEAVES = {
    **{name: name for name in ("lora_A", "lora_B", "gate.weight", "gate.bias")},
    "task_specific.values": "task_matrix",
    "weights": "up_weights",
}


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout, about: Mapping[str, Any]
) -> AdapterConfig:
    """The configuration that acts as the ``given`` one."""
    if given.get("composition_mode") == "scale":
        return ia3.config(given)
    if given.get("composition_mode", "add") != "add":
        raise CheckpointError(f"a LoRA with composition_mode={given['composition_mode']!r}, which is not known")
    if vera.is_exact(given, found):
        return vera.config(given, found, layout)
    of_tasks = given["architecture"] == MTLLoRAConfig.method
    options = {name: given[name] for name in (*_SHARED, *_OF_TASKS) if given.get(name) is not None}
    gated, dora = bool(given.get("use_gating")), bool(given.get("use_dora"))
    if gated and dora:
        raise CheckpointError("a DoRA with gates, which has no equal here")
    if _older(about.get("version"), (1, 1)) and options["alpha"] != options["r"]:
        logger.warning("this version of adapters scaled a LoRA by 1 whatever alpha said; so is it read")
        options["alpha"] = options["r"]
    if gated:  # a gate takes the place of the scaling there
        options["alpha"] = options["r"]
    kind = MTLLoRAConfig if of_tasks else LoRAConfig
    made = kind(**options, use_gating=gated, use_dora=dora, attn_matrices=_matrices(given))
    chosen, named = targets(made, found, layout)
    biased = dora and any(place.weight is not None and place.weight.bias is not None for place in chosen)
    return replace(named, bias=biased)


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    if isinstance(content.config, IA3Config):
        return ia3.read(content, found, layout, what)
    if isinstance(content.config, VeraConfig):
        return vera.read(content, found, layout, what)
    made = from_theirs(entries(content, layout), vera.multiplied(found), what)
    return made | _as_in_the_paper(Content(content.config, {**content.tensors, **made}), layout)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    if isinstance(content.config, IA3Config):
        return ia3.write(content, layout)
    if isinstance(content.config, VeraConfig):
        return vera.write(content, layout)
    assert isinstance(content.config, LoRAConfig)
    if content.config.bias and not content.config.use_dora:
        raise CheckpointError("adapters trains no bias of a LoRA (bias): save in the format of adapterhub or of PEFT")
    content = written_out(content)
    config = content.config
    assert isinstance(config, LoRAConfig)
    if config.use_dora or config.use_gating or config.use_rslora or config.rank_pattern or config.alpha_pattern:
        content = folded(content, layout.weights)
    config = content.config
    assert isinstance(config, LoRAConfig)
    if config.use_dora:
        _check_offsets(content, layout)
    of_tasks = {name: getattr(config, name) for name in _OF_TASKS} if isinstance(config, MTLLoRAConfig) else {}
    kind = {
        "architecture": config.method,
        "r": config.r,
        "alpha": int(config.alpha) if float(config.alpha).is_integer() else config.alpha,
        "dropout": config.dropout,
        "init_weights": "bert" if config.init_weights == "bert" else "lora",
        "init_weights_seed": config.init_weights_seed,
        "use_gating": config.use_gating,
        "use_dora": config.use_dora,
    }
    options = reached(content.sites("lora_A"), layout) | of_tasks | PLAIN | kind
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: Layout) -> Iterator[Entry]:
    """Every tensor, by both names; but the offset of a DoRA, which is not kept there."""
    sites = content.sites("lora_A")
    for path in dict.fromkeys(layout.weights[site].path for site in sites):
        here = [layout.weights[site] for site in sites if layout.weights[site].path == path]
        fused_in_thirds(here, layout)
        names = [place.name for place in sorted(here, key=lambda place: "qkv".find(place.role))]
        for theirs, leaf in _LEAVES.items():
            ours = [f"{name}.{leaf}" for name in names if f"{name}.{leaf}" in content.tensors]
            if ours:
                sizes = [len(content.tensors[name]) for name in ours]
                yield stacked(f"{path}.loras.{ANY}.{theirs}", ours, sizes)
        if (name := f"{names[0]}.magnitude") in content.tensors:
            if len(names) > 1:
                raise CheckpointError(f"{path}: adapters has no DoRA for queries, keys and values in one weight")
            yield shaped(f"{path}.loras.{ANY}.m.weight", name, (-1, 1), (-1,))


def _as_in_the_paper(content: Content, layout: Layout) -> dict[str, Tensor]:
    """The magnitudes, and the offsets, with which the paper's DoRA gives what that of ``adapters`` gave."""
    made: dict[str, Tensor] = {}
    assert isinstance(content.config, LoRAConfig)
    for site in content.sites("magnitude"):
        given, scaling = content.tensors[f"{site}.magnitude"].cpu(), content.config.scaling(layout.weights[site])
        measured, offset = _lengths(content, layout, site, 1.0), _offset(content, layout, site)
        made[f"{site}.magnitude"] = given * _lengths(content, layout, site, scaling) / measured
        if (name := f"{site}.bias") in content.tensors:
            made[name] = offset
    return made


def _check_offsets(content: Content, layout: Layout) -> None:
    """Pass a DoRA scaled by 1 whose offsets are those that the one of ``adapters`` has.

    Raises:
        CheckpointError: for any other.
    """
    for site in content.sites("magnitude"):
        wanted = _offset(content, layout, site)
        if not torch.allclose(wanted, content.tensors.get(f"{site}.bias", torch.zeros(1)).cpu(), rtol=0, atol=1e-6):
            raise CheckpointError(
                f"{site}: the DoRA of adapters scales the bias of the base model too, and the paper's does not. "
                "Convert the adapter to a LoRA first, or save it in the format of adapterhub or of PEFT."
            )


def _lengths(content: Content, layout: Layout, site: str, scaling: float) -> Tensor:
    """Lengths of W + s B A at a site, ``[out]``."""
    weight = layout.weights[site].weight
    assert weight is not None
    return lengths(weight.matrix.float().cpu() + scaling * product(content, site).cpu())


def _offset(content: Content, layout: Layout, site: str) -> Tensor:
    """What the DoRA of ``adapters`` adds to the output by scaling the bias of the base module."""
    weight = layout.weights[site].weight
    given = content.tensors[f"{site}.magnitude"].cpu()
    if weight is None or weight.bias is None:
        return torch.zeros_like(given)
    return (given / _lengths(content, layout, site, 1.0) - 1) * weight.bias.float().cpu()


def _matrices(given: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(role for role in "qkv" if role in given.get("attn_matrices", ("q", "v"))) or ("q",)


def _older(version: Any, than: tuple[int, int]) -> bool:
    """Whether a version of ``adapters`` (not of the library before it, which was right) is older."""
    match = re.match(r"adapters\.(\d+)\.(\d+)", str(version or ""))
    return match is not None and (int(match[1]), int(match[2])) < than
