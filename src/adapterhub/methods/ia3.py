"""(IA)³: keys, values and the inner activations of the feed-forward, each multiplied by a learned vector.

Liu et al. 2022, section 3.3: softmax(Q (l_k K)^T / sqrt(d)) (l_v V), and (l_ff f(W_1 x)) W_2. The third vector acts
on what the last projection of the feed-forward reads.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Place, Weight
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class IA3Config(AdapterConfig):
    """(IA)³ (Liu et al. 2022); ``leave_out`` names layers to skip. Vectors begin at one, which changes nothing.

    ``feed_forward`` ``"input"`` is the paper's position, what the last projection of the feed-forward reads;
    ``"output"`` that of ``adapters``, what the projections into the feed-forward give, before the non-linearity.

    Raises:
        ConfigError: for another position.
    """

    method: ClassVar[str] = "ia3"

    leave_out: tuple[int | str, ...] = ()
    feed_forward: Literal["input", "output"] = "input"

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        if self.feed_forward not in ("input", "output"):
            raise ConfigError(f"IA3Config: feed_forward is 'input' or 'output', not {self.feed_forward!r}")

    def build(self, place: Place) -> nn.Module | None:
        if place.weight is None or place.is_in(self.leave_out):
            return None
        before = ("up", "gate", "gate_up") if self.feed_forward == "output" else ()
        if place.role in ("k", "v", *before):
            return ScaledOutput(place.weight.shape[0])
        return ScaledInput(place.weight.shape[1]) if place.role == "down" and not before else None


class ScaledOutput(nn.Module):
    """Multiplies what a weight gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """``output`` ``[..., width]``, scaled."""
        return output * self.scale.to(output.dtype)

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives the same."""
        bias = weight.bias
        return weight.matrix.float() * self.scale[:, None], None if bias is None else bias.float() * self.scale


class ScaledInput(nn.Module):
    """Multiplies what a weight reads."""

    on_input = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` ``[..., width]``, scaled."""
        return inputs * self.scale.to(inputs.dtype)

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives the same."""
        return weight.matrix.float() * self.scale, weight.bias


register(IA3Config, {"ia3": IA3Config()})
