"""Prompt tuning as PEFT writes it: vectors that are read as embedded tokens before the text.

What the network of its p-tuning made is kept in the same form. For an encoder-decoder it keeps as many vectors again,
for the decoder, which it never reads: they are left out.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout
from adapterhub.errors import CheckpointError
from adapterhub.methods.prompt import PromptTuningConfig

OWNER = re.compile(r"(?P<path>\b)prompt_embeddings")  # of the model as a whole
_KEY = "prompt_embeddings"
_NAME = "prompt.prompt_embedding.weight"
_THERE = {"combine": "prefix", "insert_at": "word_embeddings", "encoder_prompt": True, "decoder_prompt": False}


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return key == _KEY


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> PromptTuningConfig:
    """The configuration that acts as the ``given`` one; what the prompt began as is of no use any more."""
    return PromptTuningConfig.from_dict({"prompt_length": len(found[_KEY]) // _submodules(given), **_THERE})


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs((Entry(_KEY, (_NAME,), lambda tensor: tensor.chunk(_submodules(given))[:1]),), found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors.

    Raises:
        CheckpointError: for a prompt that stands elsewhere.
    """
    made = content.config
    assert isinstance(made, PromptTuningConfig)
    if strange := [name for name, value in _THERE.items() if getattr(made, name) != value]:
        raise CheckpointError(
            f"a prompt of PEFT is read as tokens before the text, in an encoder-decoder the encoder's: {_THERE}. "
            f"This one has {strange[0]}={getattr(made, strange[0])!r}; save it in the format of adapterhub"
        )
    roles = {place.role for place in layout.places}
    if "cross_keys_values" in roles and "decoder_prompt" not in roles:
        raise CheckpointError(
            "a prompt of PEFT is for an encoder of tokens, and this one reads none: save as adapterhub"
        )
    attentions = [place for place in layout.places if place.kind == "attention"]
    layers = {place.layer for place in layout.places if place.layer is not None}
    vectors = content.tensors[_NAME]
    options = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": made.prompt_length,
        "token_dim": vectors.shape[1],
        "num_layers": len(layers),
        "num_attention_heads": attentions[0].heads[0] if attentions and attentions[0].heads else 1,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_name_or_path": None,
    }
    return options, to_theirs((same(_KEY, _NAME),), content.tensors)


def _submodules(given: Mapping[str, Any]) -> int:
    """How many parts of a model the vectors are for, one after another: those of the first are read."""
    return int(given.get("num_transformer_submodules") or 1)
