"""Modules that have other paths in transformers 5 than in 4, which ``adapters`` needs and older checkpoints know."""

import re

_LIKE_VIT = {  # here -> there, of a layer
    "layers.{}.attention.q_proj": "encoder.layer.{}.attention.attention.query",
    "layers.{}.attention.k_proj": "encoder.layer.{}.attention.attention.key",
    "layers.{}.attention.v_proj": "encoder.layer.{}.attention.attention.value",
    "layers.{}.attention.o_proj": "encoder.layer.{}.attention.output.dense",
    "layers.{}.mlp.fc1": "encoder.layer.{}.intermediate.dense",
    "layers.{}.mlp.fc2": "encoder.layer.{}.output.dense",
    "layers.{}.attention.prefix_tuning": "encoder.layer.{}.attention.attention.prefix_tuning",
    "layers.{}.attention_adapters": "encoder.layer.{}.attention_adapters",
    "layers.{}.output_adapters": "encoder.layer.{}.output_adapters",
    "layers.{}.output.output_adapters": "encoder.layer.{}.output.output_adapters",
    "layers.{}.reft_layer": "encoder.layer.{}.reft_layer",
    "layers.{}.layernorm_before": "encoder.layer.{}.layernorm_before",
    "layers.{}.layernorm_after": "encoder.layer.{}.layernorm_after",
}
_NAMES = {"vit": _LIKE_VIT, "beit": _LIKE_VIT}


def to_here(key: str, model_type: str) -> str:
    """A key with the paths of transformers 5."""
    return _changed(key, {there: here for here, there in _NAMES.get(model_type, {}).items()})


def to_there(key: str, model_type: str) -> str:
    """A key with the paths of transformers 4."""
    return _changed(key, _NAMES.get(model_type, {}))


def _changed(key: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        pattern = r"(?P<before>^|.*\.)" + re.escape(old).replace(r"\{\}", r"(?P<number>\d+)") + r"(?P<after>\..*|$)"
        if (found := re.fullmatch(pattern, key)) is not None:
            return found["before"] + new.format(found["number"]) + found["after"]
    return key
