"""Prompt tuning as PEFT writes it: vectors that are read as embedded tokens before the text.

What the network of its p-tuning made is kept in the same form.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.entries import Content, from_theirs, same, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout
from adapterhub.errors import CheckpointError
from adapterhub.methods.prompt import PromptTuningConfig

OWNER = re.compile(r"(?P<path>\b)prompt_embeddings")  # of the model as a whole
_KEY = "prompt_embeddings"
_ENTRIES = (same(_KEY, "prompt.prompt_embedding.weight"),)
_THERE = {"combine": "prefix", "insert_at": "word_embeddings"}


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return key == _KEY


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> PromptTuningConfig:
    """The configuration that acts as the ``given`` one; what the prompt began as is of no use any more.

    Raises:
        CheckpointError: for one of an encoder-decoder, of which the decoder has a prompt too.
    """
    if (given.get("num_transformer_submodules") or 1) > 1:
        raise CheckpointError("it is a prompt for encoder and decoder, and here the encoder alone can have one")
    return PromptTuningConfig.from_dict({"prompt_length": len(found[_KEY]), **_THERE})


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(_ENTRIES, found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors.

    Raises:
        CheckpointError: for a prompt that stands elsewhere, or in an encoder-decoder.
    """
    made = content.config
    assert isinstance(made, PromptTuningConfig)
    if strange := [name for name, value in _THERE.items() if getattr(made, name) != value]:
        raise CheckpointError(
            f"a prompt of PEFT is read as tokens before the text: {_THERE}. This one has "
            f"{strange[0]}={getattr(made, strange[0])!r}; save it in the format of adapterhub"
        )
    attentions = [place for place in layout.places if place.kind == "attention"]
    if any(place.role != "keys_values" for place in attentions):
        raise CheckpointError("PEFT gives the decoder of an encoder-decoder a prompt too: save as adapterhub")
    layers = {place.layer for place in layout.places if place.layer is not None}
    vectors = content.tensors["prompt.prompt_embedding.weight"]
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
    return options, to_theirs(_ENTRIES, content.tensors)
