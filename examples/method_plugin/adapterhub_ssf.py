"""SSF: what every linear map gives, scaled and shifted by trained vectors (Lian et al. 2022, equation 3).

A whole method for adapterhub: a configuration that says where it acts, and a module that says what it does there. The
entry point in ``pyproject.toml`` makes it known under its name.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from adapterhub.methods import AdapterConfig, Place, Weight


@dataclass(frozen=True, eq=False)
class SSFConfig(AdapterConfig):
    """Scaling and shifting your features; ``roles`` are the weights whose outputs are changed."""

    method: ClassVar[str] = "ssf"

    roles: tuple[str, ...] = ("q", "k", "v", "o", "up", "gate", "down")
    leave_out: tuple[int, ...] = ()

    def build(self, place: Place) -> nn.Module | None:
        if place.weight is None or place.role not in self.roles or place.layer in self.leave_out:
            return None
        return ScaleAndShift(place.weight.shape[0])


class ScaleAndShift(nn.Module):
    """y = gamma * x + beta; it begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """``output`` ``[..., width]`` of the base model's weight, changed."""
        return output * self.gamma + self.beta

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base model alone gives the same."""
        bias = self.beta if weight.bias is None else self.gamma * weight.bias + self.beta
        return self.gamma[:, None] * weight.matrix, bias
