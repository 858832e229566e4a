"""Tokens that PEFT trains beside a LoRA: their rows of the embeddings, as LoRAs that change these rows alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.peft.layout import PeftLayout
from adapterhub.errors import CheckpointError
from adapterhub.methods import Place
from adapterhub.methods.lora import LoRAConfig

_LEAF = ".token_adapter.trainable_tokens_delta"


def split(found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rows of tokens by the paths of their embeddings, and all other tensors."""
    rows = {key.removesuffix(_LEAF): tensor for key, tensor in found.items() if key.endswith(_LEAF)}
    return rows, {key: tensor for key, tensor in found.items() if not key.endswith(_LEAF)}


def configs(found: Mapping[str, Tensor], layout: PeftLayout) -> list[LoRAConfig]:
    """A LoRA for each table of embeddings, and for each that shares its values."""
    return [
        LoRAConfig(target_modules=(place.path,), r=len(values), alpha=len(values))
        for path, values in split(found)[0].items()
        for place in _tied(layout.by_path[path], layout)
    ]


def read(found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """The tensors of each of these LoRAs.

    Raises:
        CheckpointError: if it is not said which tokens were trained.
    """
    made = []
    for path, values in split(found)[0].items():
        table = layout.by_path[path]
        indices = _indices(given["trainable_token_indices"], path)
        assert table.weight is not None
        if len(indices) != len(values):
            raise CheckpointError(
                f"{len(values)} tokens of {path} were trained, and trainable_token_indices says {indices}"
            )
        base = table.weight.matrix.detach().float().cpu()  # [width, tokens]
        chosen = torch.zeros(len(indices), base.shape[1])
        chosen[range(len(indices)), indices] = 1.0
        change = values.float() - base[:, indices].T
        for place in _tied(table, layout):
            down, up = (chosen, change.T) if place is table else (change, chosen.T)
            made.append({f"{place.name}.lora_A": down, f"{place.name}.lora_B": up})
    return made


def _tied(table: Place, layout: PeftLayout) -> list[Place]:
    """A table, and the output embeddings if they are the same values."""
    start = _start(table)
    return [table, *(place for place in layout.by_path.values() if place is not table and _start(place) == start)]


def _start(place: Place) -> int:
    """Where the values of a weight lie in memory."""
    return -1 if place.weight is None else place.weight.matrix.data_ptr()


def _indices(given: Any, path: str) -> list[int]:
    if isinstance(given, Mapping):
        return next((list(one) for name, one in given.items() if f".{path}".endswith(f".{name}")), [])
    return list(given)
