"""Reads the golden files under ``golden``, which ``golden/make.py`` writes."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub

FOLDER = Path(__file__).parent / "golden"
ADAPTERS = FOLDER / "adapters"
PEFT, ON_GPT2 = FOLDER / "peft", ("some_norms",)
SEQ2SEQ = FOLDER / "seq2seq"
LABELS = sorted(path.name for path in ADAPTERS.iterdir() if path.name != "bert-setup")

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


def flexible(name: str) -> Any:
    """A golden base model with flexible heads."""
    bare, _, _ = base(name)
    if bare.config.is_encoder_decoder:
        bare.config.decoder_start_token_id = 2 if name == "bart" else 0
    model: Any = adapterhub.AutoAdapterModel.from_config(bare.config)
    model.load_state_dict(bare.state_dict(), strict=False)
    return model.eval()


def expected(folder: Path) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs of a checkpoint, and what its library gave."""
    saved = load_file(folder / "expected.safetensors")
    inputs = {key.removeprefix("input/"): value for key, value in saved.items() if key.startswith("input/")}
    return inputs, saved["output"]


def classifier(label: str) -> tuple[Any, dict[str, Tensor], Tensor]:
    """The transformers class with a head that a checkpoint of PEFT was made from, inputs, and what PEFT gave."""
    name = next((one for one in ("gpt2", "llama") if one in label or label in ON_GPT2), "bert")
    bare, inputs, _ = base(name)
    settings = bare.config.to_diff_dict() | ({} if name == "bert" else {"pad_token_id": 0})
    model_class = getattr(transformers, type(bare).__name__.replace("Model", "ForSequenceClassification"))
    model = model_class(type(bare.config)(**settings)).eval()
    getattr(model, model.base_model_prefix).load_state_dict(bare.state_dict())
    saved = load_file(PEFT / label / "expected.safetensors")
    with torch.no_grad():
        for key in saved:
            if key.startswith("base/"):
                model.get_parameter(key.removeprefix("base/")).copy_(saved[key])
    return adapterhub.init(model), inputs, saved["output"]


def seq2seq(label: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """The encoder-decoder that a prompt of PEFT was made from, inputs, and what PEFT gave: scores, and a text."""
    name = label.partition("-")[0]
    bare, inputs, _ = base(name)
    settings = bare.config.to_diff_dict() | {"pad_token_id": 0, "decoder_start_token_id": 2}
    model_class = getattr(transformers, type(bare).__name__.replace("Model", "ForConditionalGeneration"))
    model = model_class(type(bare.config)(**settings)).eval()
    (model.model if name == "bart" else model).load_state_dict(bare.state_dict(), strict=False)
    saved = load_file(SEQ2SEQ / label / "expected.safetensors")
    return adapterhub.init(model), inputs, saved


def ours(path: str) -> tuple[str, str]:
    """The adapter that a tensor of the peer's belongs to, and its name in ours."""
    place, adapter, part = re.fullmatch(r"(.*?)\.adapters\.([ab])\.(.*)", path).groups()
    sites = [re.sub(pattern, site, place) for pattern, site in PLACES if re.fullmatch(pattern, place)]
    assert len(sites) == 1, f"{path} is at no known place"
    for pattern, name in PARTS:
        part = re.sub(pattern, name, part)
    return adapter, f"{sites[0]}.{part}"
