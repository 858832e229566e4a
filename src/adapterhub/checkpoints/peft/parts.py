"""Adapters of queries, keys or values that stand in one weight, as adapters of the whole weight."""

import torch
from torch import Tensor

from adapterhub.checkpoints.entries import Content
from adapterhub.checkpoints.peft.layout import PeftLayout
from adapterhub.methods import Place
from adapterhub.methods.lora import LoRAConfig
from adapterhub.methods.low_rank import lengths


def joined(content: Content, layout: PeftLayout) -> Content:
    """A LoRA whose parts of one weight are one of the whole: A one below the other, B where their outputs are."""
    config = content.config
    assert isinstance(config, LoRAConfig)
    tensors = dict(content.tensors)
    ranks, alphas = {}, {}
    parts = [place for site in content.sites("lora_A") if not (place := layout.by_name[site]).whole]
    for path in dict.fromkeys(place.path for place in parts):
        here = [place for place in parts if place.path == path]
        own = {place: {leaf: tensors.pop(f"{place.name}.{leaf}", None) for leaf in _LEAVES} for place in here}
        whole = layout.whole(here[0])
        downs = [values["lora_A"] for values in own.values() if values["lora_A"] is not None]
        rank = sum(len(down) for down in downs)
        ups = []
        for place, values in own.items():
            up = values["lora_B"]
            assert up is not None
            ups.append(spread(place, whole, config.scaling(place) * up.T).T)
        tensors[f"{whole.name}.lora_A"] = torch.cat(downs)
        tensors[f"{whole.name}.lora_B"] = torch.cat(ups, dim=1)
        if config.bias:
            offsets = [
                spread(place, whole, values["bias"]) for place, values in own.items() if values["bias"] is not None
            ]
            tensors[f"{whole.name}.bias"] = torch.stack(offsets).sum(0)
        if config.use_dora and whole.weight is not None:
            total = lengths(whole.weight.matrix.detach().float().cpu())
            for place, values in own.items():
                assert place.weight is not None and values["magnitude"] is not None
                total = place.weight.replace(total, values["magnitude"].cpu())
            tensors[f"{whole.name}.magnitude"] = total
        ranks[path] = rank
        alphas[path] = rank**0.5 if config.use_rslora else rank
    patterns = {"rank_pattern": ranks | dict(config.rank_pattern), "alpha_pattern": alphas | dict(config.alpha_pattern)}
    return Content(config.replace(**patterns), tensors)


def spread(place: Place, whole: Place, values: Tensor) -> Tensor:
    """Values of a part ``[..., out]`` among zeros where the rest of the whole is."""
    assert place.weight is not None and whole.weight is not None
    empty = torch.zeros(*values.shape[:-1], whole.weight.shape[0])
    return place.weight.replace(empty, values.detach().cpu().float())


_LEAVES = ("lora_A", "lora_B", "bias", "magnitude")
