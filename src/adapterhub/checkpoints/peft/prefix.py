"""Prefix tuning as PEFT writes it: keys and values of one layer after another, taken for tokens before the text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout
from adapterhub.errors import CheckpointError
from adapterhub.methods import Place
from adapterhub.methods.prefix import PrefixTuningConfig

OWNER = re.compile(r"(?P<path>\b)prompt_embeddings")  # of the model as a whole
_KEY = "prompt_embeddings"


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return key == _KEY


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> PrefixTuningConfig:
    """The configuration that acts as the ``given`` one: what a network made of it is kept flat."""
    _attentions(layout)
    return PrefixTuningConfig(flat=True, prefix_length=len(found[_KEY]), shift_positions=True)


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    made = content.config
    assert isinstance(made, PrefixTuningConfig)
    places = _attentions(layout)
    if not (made.flat and made.shift_positions) or made.use_gating or made.dropout or made.leave_out:
        raise CheckpointError(
            "a prefix of PEFT is flat, in every layer, without gates and dropout, and moves the positions of the text: "
            "PrefixTuningConfig(flat=True, shift_positions=True). eject_prefix_tuning makes one flat; what was trained "
            "with positions that stay gives something else there."
        )
    shapes = {place.heads for place in places}
    heads, key, value = next(iter(shapes)) or (0, 0, 0)
    if len(shapes) > 1 or key != value:
        raise CheckpointError("PEFT has prefixes for attentions with keys and values of one size alone")
    options = {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": made.prefix_length,
        "num_layers": len(places),
        "num_attention_heads": heads,
        "token_dim": heads * key,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
        "encoder_hidden_size": None,
    }
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """The one tensor, by both names."""
    names = tuple(f"{place.name}.prefix" for place in _attentions(layout))
    sizes = [content.tensors[name].shape[1] for name in names]
    yield Entry(_KEY, names, lambda tensor: tensor.split(sizes, dim=1), lambda tensors: torch.cat(list(tensors), dim=1))


def _attentions(layout: PeftLayout) -> list[Place]:
    """Where keys and values are read.

    Raises:
        CheckpointError: for a model with several towers, whose prefixes PEFT mixes.
    """
    places = [place for place in layout.places if place.kind == "attention"]
    if any(place.role != "keys_values" or not place.name.startswith("layers.") for place in places):
        raise CheckpointError("prefixes of PEFT are read and written for models with one tower alone")
    return places
