"""Reads the golden files under ``golden``, which ``golden/make.py`` writes."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

FOLDER = Path(__file__).parent / "golden"

PLACES = (  # where the peer keeps an adapter -> the site
    (r"encoder\.layer\.(\d)\.attention\.output", r"layers.\1.attention"),
    (r"encoder\.layer\.(\d)\.output", r"layers.\1.feed_forward"),
    (r"(?:transformer\.layer|h)\.(\d)\.attention_adapters", r"layers.\1.attention"),
    (r"(?:transformer\.layer|h)\.(\d)\.output_adapters", r"layers.\1.feed_forward"),
    (r"(encoder|decoder)\.layers\.(\d)\.(attention|cross_attention)_adapters", r"\1.layers.\2.\3"),
    (r"(encoder|decoder)\.layers\.(\d)\.output_adapters", r"\1.layers.\2.feed_forward"),
    (r"(encoder|decoder)\.block\.(\d)\.layer\.0", r"\1.layers.\2.attention"),
    (r"encoder\.block\.(\d)\.layer\.1", r"encoder.layers.\1.feed_forward"),
    (r"decoder\.block\.(\d)\.layer\.1", r"decoder.layers.\1.cross_attention"),
    (r"decoder\.block\.(\d)\.layer\.2", r"decoder.layers.\1.feed_forward"),
)
PARTS = (
    (r"adapter_down\.\d\.", "down_proj."),
    (r"adapter_up\.", "up_proj."),
    (r"adapter_norm_(before|after)\.", r"norm_\1."),
)


def read(name: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors of a golden file by group, and what it says about itself."""
    groups: dict[str, dict[str, Tensor]] = {"": {}}
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        for key in file.keys():  # noqa: SIM118
            group, _, rest = key.rpartition("/") if "/" in key else ("", "", key)
            groups.setdefault(group, {})[rest] = file.get_tensor(key)
        return groups, json.loads(file.metadata()["about"])


def base(name: str) -> tuple[PreTrainedModel, dict[str, Tensor], Tensor]:
    """A base model with its weights, inputs, and what it gives without adapters."""
    groups, info = read(name)
    config = getattr(transformers, f"{info['class']}Config")(**info["config"])
    model = getattr(transformers, f"{info['class']}Model")(config).eval()
    own = dict(model.named_parameters())
    assert own.keys() == groups["base"].keys()
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(groups["base"][key])
    return model, groups["input"], groups[""]["output"]


def ours(path: str) -> tuple[str, str]:
    """The adapter that a tensor of the peer's belongs to, and its name in ours."""
    place, adapter, part = re.fullmatch(r"(.*?)\.adapters\.([ab])\.(.*)", path).groups()
    sites = [re.sub(pattern, site, place) for pattern, site in PLACES if re.fullmatch(pattern, place)]
    assert len(sites) == 1, f"{path} is at no known place"
    for pattern, name in PARTS:
        part = re.sub(pattern, name, part)
    return adapter, f"{sites[0]}.{part}"
