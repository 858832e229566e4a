"""Reads the golden files under ``golden``, which ``golden/make.py`` writes."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

FOLDER = Path(__file__).parent / "golden"


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
