"""Other forms of a LoRA that give the same: what one format can say and another cannot."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from adapterhub.checkpoints.entries import Content
from adapterhub.methods import Place
from adapterhub.methods.lora import LoRAConfig


def written_out(content: Content) -> Content:
    """Without a start that is taken off again (PiSSA): B A - B0 A0 as one product of twice the rank."""
    config = content.config
    assert isinstance(config, LoRAConfig)
    sites = content.sites("lora_A0")
    if not sites:
        return content
    tensors = dict(content.tensors)
    for site in sites:
        first = tensors.pop(f"{site}.lora_A0"), tensors.pop(f"{site}.lora_B0")
        tensors[f"{site}.lora_A"] = torch.cat((tensors[f"{site}.lora_A"], first[0]))
        tensors[f"{site}.lora_B"] = torch.cat((tensors[f"{site}.lora_B"], -first[1]), dim=1)
    more = math.sqrt(2) if config.use_rslora else 2
    changed = config.replace(
        init_weights="lora",
        r=2 * config.r,
        alpha=more * config.alpha,
        rank_pattern={pattern: 2 * rank for pattern, rank in config.rank_pattern.items()},
        alpha_pattern={pattern: more * alpha for pattern, alpha in config.alpha_pattern.items()},
    )
    return Content(changed, tensors)


def folded(content: Content, weights: Mapping[str, Place]) -> Content:
    """Scaled by 1 and of one rank everywhere: the scaling is in B, and smaller ranks are filled up with zeros."""
    config = content.config
    assert isinstance(config, LoRAConfig)
    sites = content.sites("lora_A")
    rank = max(len(content.tensors[f"{site}.lora_A"]) for site in sites)
    tensors = dict(content.tensors)
    for site in sites:
        down, up = tensors[f"{site}.lora_A"].flatten(1), tensors[f"{site}.lora_B"]
        missing = rank - len(down)
        shape = (rank, *tensors[f"{site}.lora_A"].shape[1:])
        tensors[f"{site}.lora_A"] = F.pad(down, (0, 0, 0, missing)).view(shape)
        tensors[f"{site}.lora_B"] = F.pad(config.scaling(weights[site]) * up, (0, missing))
    changed = config.replace(r=rank, alpha=rank, use_rslora=False, rank_pattern={}, alpha_pattern={})
    return Content(changed, tensors)


def product(content: Content, site: str) -> Tensor:
    """B A at a site, ``[out, in]`` (of a convolution ``[out, in * kernel]``)."""
    down, up = content.tensors[f"{site}.lora_A"], content.tensors[f"{site}.lora_B"]
    return up @ down.flatten(1)
