"""VeRA: one pair of frozen random matrices for all weights, and two trained vectors for each (Kopiczko et al. 2024).

W + diag(b) B diag(d) A, with A [r, in] and B [out, r] (equation 2). Weights of other sizes take the first rows and
columns of the shared ones that they need. With ``use_dora`` (DVoRA, Liu et al. 2024) the lengths are trained too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapterhub.methods.base import Modules, Place, Weight, seeded
from adapterhub.methods.lora import is_rank
from adapterhub.methods.low_rank import LowRankChange, lengths
from adapterhub.methods.registry import register
from adapterhub.methods.targets import TargetsConfig


@dataclass(frozen=True, eq=False)
class VeraConfig(TargetsConfig):
    """VeRA; where it acts is as ``TargetsConfig`` says.

    ``r`` is that of the shared matrices, ``vera_d`` and ``vera_b`` the first values of the vectors (``vera_b`` 0 begins
    as the identity). ``dropout`` acts on its input in training; ``use_dora`` makes it DVoRA. The shared matrices are
    drawn from ``init_weights_seed`` (Kaiming, uniform) and saved once.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "vera"

    r: int = 8
    vera_d: float = 0.1
    vera_b: float = 0.0
    dropout: float = 0.0
    use_dora: bool = False
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(is_rank(self.r), "r", "whole and above 0")
        self._require(0 <= self.dropout < 1, "dropout", "in [0, 1)")

    def modules(self, places: Sequence[Place]) -> Modules:
        chosen = [(place, place.weight) for place in places if place.weight is not None and self.acts_at(place)]
        if not chosen:
            return Modules({})
        widest = max(math.prod(weight.shape[1:]) for _, weight in chosen)
        longest = max(weight.shape[0] for _, weight in chosen)
        shared = SharedMatrices(self.r, widest, longest, seeded(self.init_weights_seed, "shared"))
        return Modules({place.name: Vectors(self, weight, shared) for place, weight in chosen}, shared)


@dataclass(frozen=True, eq=False)
class DvoRAConfig(VeraConfig):
    """VeRA of directions, with trained lengths (Liu et al. 2024, section 5.3)."""

    use_dora: bool = True


class SharedMatrices(nn.Module):
    """A ``[r, in]`` and B ``[out, r]`` for the largest of all weights, not trained."""

    def __init__(self, rank: int, inputs: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        for name, shape in (("vera_A", (rank, inputs)), ("vera_B", (outputs, rank))):
            matrix = torch.empty(shape)
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator)
            self.register_buffer(name, matrix)


class Vectors(LowRankChange):
    """The module of VeRA at one weight."""

    bias = gate = None

    def __init__(self, config: VeraConfig, weight: Weight, shared: SharedMatrices) -> None:
        super().__init__()
        self.dropout = config.dropout
        self._shared = (shared,)  # in a tuple, it is no part of this module
        self.inner = tuple(weight.shape[1:])
        self.vera_lambda_d = nn.Parameter(torch.full((config.r,), config.vera_d))
        self.vera_lambda_b = nn.Parameter(torch.full((weight.shape[0],), config.vera_b))
        self.magnitude = None
        if config.use_dora:
            with torch.no_grad():
                self.magnitude = nn.Parameter(lengths(weight.by_output(self._matrix(weight))))

    def factors(self) -> tuple[Tensor, Tensor]:
        matrices: Any = self._shared[0]
        here = self.vera_lambda_d.device
        down = matrices.vera_A[:, : math.prod(self.inner)].to(here) * self.vera_lambda_d[:, None]
        up = matrices.vera_B[: len(self.vera_lambda_b)].to(here) * self.vera_lambda_b[:, None]
        return down.view(-1, *self.inner), up


register(VeraConfig, {"vera": VeraConfig(), "dvora": DvoRAConfig()})
