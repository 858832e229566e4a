"""LHUC: hidden units of the feed-forward, each with a learned amplitude (Swietojanski and Renals 2014).

The amplitude is 2 sigmoid(a), from 0 to 2, and begins at 1 (equation 2).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from adapterhub.methods.base import AdapterConfig, Place, Weight
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class LHUCConfig(AdapterConfig):
    """Learning hidden unit contributions; ``leave_out`` names layers to skip."""

    method: ClassVar[str] = "lhuc"

    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))

    def build(self, place: Place) -> nn.Module | None:
        if place.weight is None or place.role != "down" or place.is_in(self.leave_out):
            return None
        return Amplitude(place.weight.shape[1])


class Amplitude(nn.Module):
    """Multiplies what a weight reads by 2 sigmoid(a)."""

    on_input = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.amplitude = nn.Parameter(torch.zeros(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` ``[..., width]``, scaled."""
        return inputs * (2 * torch.sigmoid(self.amplitude)).to(inputs.dtype)

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives the same."""
        return weight.matrix.float() * (2 * torch.sigmoid(self.amplitude)), weight.bias


register(LHUCConfig, {"lhuc": LHUCConfig()})
