"""(IA)³: keys, values and the inner activations of the feed-forward, each multiplied by a learned vector.

Liu et al. 2022, section 3.3: softmax(Q (l_k K)^T / sqrt(d)) (l_v V), and (l_ff f(W_1 x)) W_2. The third vector acts
on what the last projection of the feed-forward reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Place, Weight
from adapterhub.methods.registry import register
from adapterhub.methods.targets import check_targets, fits


@dataclass(frozen=True, eq=False)
class IA3Config(AdapterConfig):
    """(IA)³ (Liu et al. 2022); ``leave_out`` names layers to skip. Vectors begin at one, which changes nothing.

    ``feed_forward`` ``"input"`` is the paper's position, what the last projection of the feed-forward reads;
    ``"output"`` that of ``adapters``, what the projections into the feed-forward give, before the non-linearity.

    ``target_modules`` takes the place of these: weights by role or name (the end of a path), whose outputs are scaled,
    or whose inputs, if ``feedforward_modules`` names them too.

    Raises:
        ConfigError: for another position.
    """

    method: ClassVar[str] = "ia3"

    leave_out: tuple[int | str, ...] = ()
    feed_forward: Literal["input", "output"] = "input"
    target_modules: tuple[str, ...] | None = None
    feedforward_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("leave_out", "target_modules", "feedforward_modules"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.feed_forward not in ("input", "output"):
            raise ConfigError(f"IA3Config: feed_forward is 'input' or 'output', not {self.feed_forward!r}")

    def check(self, places: Sequence[Place]) -> None:
        super().check(places)
        weights = [place for place in places if place.weight is not None]
        check_targets(self.target_modules, weights)
        check_targets(self.feedforward_modules, weights)

    def acts_at(self, place: Place) -> Literal["input", "output"] | None:
        """Which side of a weight is scaled, if one is."""
        if place.weight is None or place.is_in(self.leave_out):
            return None
        if self.target_modules is not None:
            if not fits(place, self.target_modules):
                return None
            return "input" if fits(place, self.feedforward_modules) else "output"
        before = ("up", "gate", "gate_up") if self.feed_forward == "output" else ()
        if place.role in ("k", "v", *before):
            return "output"
        return "input" if place.role == "down" and not before else None

    def build(self, place: Place) -> nn.Module | None:
        if place.weight is None or (side := self.acts_at(place)) is None:
            return None
        return ScaledInput(place.weight.shape[1]) if side == "input" else ScaledOutput(place.weight.shape[0])


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
