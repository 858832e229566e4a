"""The best of several given answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import MultipleChoiceModelOutput
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, HeadConfig, HeadContext, Mlp, class_names, register_head
from adapterhub.heads.pooling import PooledHead


@dataclass(frozen=True)
class MultipleChoiceConfig(HeadConfig):
    """``layers`` linear maps over one vector for each choice; ``id2label`` names the choices, if anything."""

    num_choices: int = 2
    layers: int = 2
    activation_function: str | None = "tanh"
    use_pooler: bool | None = None
    dropout: float | None = None
    id2label: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        if self.id2label is not None:
            object.__setattr__(self, "id2label", class_names(self.id2label, self.num_choices))

    @property
    def labels(self) -> Mapping[int, str] | None:
        """Names of the choices, or None."""
        return self.id2label


@register_head("multiple_choice")
class MultipleChoiceHead(PooledHead):
    """Cross-entropy over ``labels [batch]``, the right choices; inputs are ``[batch, choices, seq]``."""

    config_class = MultipleChoiceConfig
    full_precision = True
    config: MultipleChoiceConfig

    def __init__(self, config: MultipleChoiceConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.layers = Mlp(base, 1, config.layers, config.activation_function, config.dropout)

    def prepare(self, base: PreTrainedModel, inputs: dict[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """Every choice becomes a row of its own.

        Raises:
            HeadError: if there are more or fewer choices than the head was made for.
        """
        wrong = [name for name in _with_choices(inputs) if inputs[name].shape[1] != self.config.num_choices]
        if wrong:
            shape = tuple(inputs[wrong[0]].shape)
            raise HeadError(f"this head was made for {self.config.num_choices} choices; {wrong[0]} has shape {shape}")
        return flatten_choices(inputs)

    def answer(self, context: HeadContext, scores: Tensor) -> ModelOutput:
        """``logits``: ``[batch, choices]``."""
        logits = scores.view(-1, self.config.num_choices)
        loss = None if context.labels is None else F.cross_entropy(logits, context.labels.view(-1))
        return context.answer(MultipleChoiceModelOutput, loss=loss, logits=logits)


def flatten_choices(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs ``[batch, choices, ...]`` as ``[batch * choices, ...]``; those without choices as they are."""
    names = _with_choices(inputs)
    return {name: value.flatten(0, 1) if name in names else value for name, value in inputs.items()}


def _with_choices(inputs: Mapping[str, Any]) -> list[str]:
    tensors = [(name, value) for name, value in inputs.items() if isinstance(value, Tensor)]
    return [name for name, value in tensors if value.dim() == (4 if name.endswith("inputs_embeds") else 3)]
