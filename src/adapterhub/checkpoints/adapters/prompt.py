"""Prompt tuning as ``adapters`` writes it: it comes in there where tokens and positions are embedded already."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.entries import Content, from_theirs, same, to_theirs
from adapterhub.errors import CheckpointError
from adapterhub.methods.prompt import PromptTuningConfig

_ENTRIES = (
    same(f"prompt_tuning.prompt_tunings.{ANY}.prompt_embedding.weight", "prompt.prompt_embedding.weight"),
)  # fmt: skip
_THERE = "embedding_output"
_KNOWN = ("random_uniform", "from_string")


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: Layout, about: Mapping[str, Any]
) -> PromptTuningConfig:
    """The configuration that acts as the ``given`` one; what the prompt began as is of no use any more."""
    options = {name: value for name, value in given.items() if name != "architecture"}
    return PromptTuningConfig.from_dict({**options, "prompt_init": "random_uniform", "insert_at": _THERE})


def read(content: Content, found: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(_ENTRIES, found, what)


def write(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors.

    Raises:
        CheckpointError: for a prompt that stands elsewhere.
    """
    made = content.config
    assert isinstance(made, PromptTuningConfig)
    if made.insert_at != _THERE:
        raise CheckpointError(
            f"adapters has prompts after the embeddings alone (insert_at={_THERE!r}), and this one has "
            f"insert_at={made.insert_at!r}: save in the format of adapterhub or of PEFT"
        )
    if made.decoder_prompt or not made.encoder_prompt:
        raise CheckpointError("adapters has no prompts in a decoder after an encoder: save in the format of adapterhub")
    options = {
        "architecture": "prompt_tuning",
        "prompt_length": made.prompt_length,
        "prompt_init": made.prompt_init if made.prompt_init in _KNOWN else "random_uniform",
        "prompt_init_text": made.prompt_init_text,
        "combine": made.combine,
        "init_weights_seed": made.init_weights_seed,
    }
    return options, to_theirs(_ENTRIES, content.tensors)
