"""BitFit: the biases alone are trained (Ben Zaken et al. 2022). What is kept of each is its change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapterhub.methods.base import AdapterConfig, Place, Weight
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class BitFitConfig(AdapterConfig):
    """Every bias of the base model, those of norms too; ``leave_out`` names layers to skip.

    ``roles`` narrows it to some weights, as ``("q", "up")`` does: the two of section 4.1 that are nearly as good.
    """

    method: ClassVar[str] = "bitfit"

    roles: tuple[str, ...] | None = None
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        if self.roles is not None:
            object.__setattr__(self, "roles", tuple(self.roles))

    def build(self, place: Place) -> nn.Module | None:
        if place.is_in(self.leave_out):
            return None
        if self.roles is not None and place.role not in self.roles:
            return None
        if place.norm is not None:
            return ShiftedNorm(place.norm) if getattr(place.norm, "bias", None) is not None else None
        if place.weight is None or (not place.whole and self.roles is None) or place.weight.bias is None:
            return None
        return Shift(place.weight.shape[0])


class Shift(nn.Module):
    """Adds a vector to what a weight gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """``output`` ``[..., width]``, shifted."""
        return output + self.update(output, inputs, weight).to(output.dtype)

    def update(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """What ``forward`` adds to ``output``."""
        return weight.spread(self.shift).expand_as(output)

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives the same."""
        bias = weight.bias
        return weight.matrix, self.shift if bias is None else bias.float() + self.shift


class ShiftedNorm(nn.Module):
    """The base model's norm with another bias."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self._norm = (norm,)  # in a tuple, it is no part of this module
        bias: Any = norm.bias
        self.shift = nn.Parameter(torch.zeros_like(bias))

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` ``[..., width]``, normalised."""
        normed: Tensor = self._norm[0].forward(inputs)  # not called: hooks on it are for the base model's use
        return normed + self.shift.to(normed.dtype)

    def merged_norm(self, norm: nn.Module) -> Mapping[str, Tensor]:
        """The parameters with which ``norm`` gives what this one gives."""
        bias: Any = norm.bias
        return {"bias": bias.detach() + self.shift.detach().to(bias.dtype)}


register(BitFitConfig, {"bitfit": BitFitConfig()})
