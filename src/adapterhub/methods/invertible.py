"""Invertible adapters: coupling blocks at the embeddings, undone before the tied output embeddings.

Dinh et al. 2015 (NICE):           y1 = x1 + F(x2),                 y2 = x2 + G(y1)
Kingma and Dhariwal 2018 (GLOW):   y1 = e(s2) x1 + t2,              y2 = e(s1) x2 + t1
    with s2, t2 from x2, s1, t1 from y1, and e(s) = exp(0.636 c atan(s / c)), c = 5, which bounds the factors
Pfeiffer et al. 2020 (MAD-X, section 3.3.2): NICE after the embeddings, and its inverse before the output embeddings.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from adapterhub.methods.activations import activation
from adapterhub.methods.base import seeded

_CLAMP = 5.0


class CouplingBlock(nn.Module):
    """A map of ``[..., width]`` whose inverse costs what it costs; both are computed in the parameters' precision."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = (width // 2, width - width // 2)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``hidden_states`` ``[..., width]`` in the adapter's space."""
        return self._exactly(hidden_states, self._forward)

    def inverse(self, hidden_states: Tensor) -> Tensor:
        """What ``forward`` made ``hidden_states`` of."""
        return self._exactly(hidden_states, self._inverse)

    @abstractmethod
    def _forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _inverse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]: ...

    def _exactly(self, hidden: Tensor, run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # in half precision the inverse would be none
            first, second = hidden.to(next(self.parameters()).dtype).split(self.sizes, dim=-1)
            return torch.cat(run(first, second), dim=-1).to(hidden.dtype)


class NICE(CouplingBlock):
    """Additive coupling."""

    def __init__(self, width: int, non_linearity: str, reduction_factor: float, seed: int | None = None) -> None:
        super().__init__(width)
        first, second = self.sizes
        self.F = _Net(second, first, non_linearity, reduction_factor, seed, "F")
        self.G = _Net(first, second, non_linearity, reduction_factor, seed, "G")

    def _forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        first = first + self.F(second)
        return first, second + self.G(first)

    def _inverse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        second = second - self.G(first)
        return first - self.F(second), second


class GLOW(CouplingBlock):
    """Affine coupling."""

    def __init__(self, width: int, non_linearity: str, reduction_factor: float, seed: int | None = None) -> None:
        super().__init__(width)
        first, second = self.sizes
        self.s1 = _Net(first, 2 * second, non_linearity, reduction_factor, seed, "s1")
        self.s2 = _Net(second, 2 * first, non_linearity, reduction_factor, seed, "s2")

    def _forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.s2(second).chunk(2, dim=-1)
        first = _factor(scale) * first + shift
        scale, shift = self.s1(first).chunk(2, dim=-1)
        return first, _factor(scale) * second + shift

    def _inverse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.s1(first).chunk(2, dim=-1)
        second = (second - shift) / _factor(scale)
        scale, shift = self.s2(second).chunk(2, dim=-1)
        return (first - shift) / _factor(scale), second


BLOCKS: dict[str, type[NICE] | type[GLOW]] = {"nice": NICE, "glow": GLOW}


class _Net(nn.Sequential):
    """Two linear maps with a non-linearity between them."""

    def __init__(
        self, inputs: int, outputs: int, non_linearity: str, reduction_factor: float, seed: int | None, name: str
    ) -> None:
        size = max(1, int(inputs // reduction_factor))
        super().__init__(nn.Linear(inputs, size), _Activation(non_linearity), nn.Linear(size, outputs))
        generator = seeded(seed, f"embeddings.{name}")
        for linear in (self[0], self[2]):
            nn.init.normal_(cast(nn.Linear, linear).weight, std=0.02, generator=generator)
            nn.init.zeros_(cast(nn.Linear, linear).bias)


class _Activation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


def _factor(scale: Tensor) -> Tensor:
    return torch.exp(_CLAMP * 0.636 * torch.atan(scale / _CLAMP))
