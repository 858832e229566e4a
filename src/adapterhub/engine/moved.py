"""Positions of the text, moved by prefixes that are taken for tokens before it."""

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.hooks import Hook
from adapterhub.engine.prefix import shift_of
from adapterhub.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine

_IDS = "position_ids"


class PositionHook(Hook):
    """Gives the base model the positions that tokens have after the prefixes of a plan."""

    def __init__(self, engine: "Engine") -> None:
        super().__init__(engine)
        base: Any = engine.model.base_model
        self.arguments = _arguments(base)
        self._handles.append(base.register_forward_pre_hook(self.move, with_kwargs=True, prepend=True))

    def move(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the base model: other ``position_ids``."""
        plan = self.engine.plan()
        if plan is None or plan.moved is None:
            return None
        given = dict(zip(self.arguments, args, strict=False)) | kwargs
        rows, length, like = _size(given)
        zeros = torch.zeros(rows, dtype=torch.long, device=like.device)
        shift = shift_of(plan.moved, zeros, self.engine.call).unsqueeze(1)
        positions = given.get(_IDS)
        if positions is None:
            cache = given.get("past_key_values")
            start = 0 if cache is None else cache.get_seq_length()
            positions = torch.arange(length, device=like.device).unsqueeze(0) + start
        return (), given | {_IDS: positions + shift}


def check(model: PreTrainedModel) -> None:
    """Pass a model whose positions can be moved.

    Raises:
        CompositionError: for one that is not told the positions of its tokens, or counts them in a way of its own.
    """
    base: Any = model.base_model
    embeddings = getattr(base, "embeddings", None)
    if _IDS not in _arguments(base) or hasattr(embeddings, "create_position_ids_from_input_ids"):
        raise CompositionError(
            f"shift_positions of a prefix: {type(base).__name__} does not count positions from 0 by position_ids, so "
            "that they cannot be moved. Train a prefix without it."
        )


def _arguments(base: PreTrainedModel) -> list[str]:
    """Names of the arguments of the forward of a base model, as transformers has it."""
    plain: Any = next(kind for kind in type(base).__mro__ if kind.__module__.startswith("transformers."))
    _, *names = inspect.signature(plain.forward).parameters
    return names


def _size(given: dict[str, Any]) -> tuple[int, int, Tensor]:
    """Rows and length of what a model reads, and the tensor that says so."""
    found: Tensor = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]
    return found.shape[0], found.shape[1], found
