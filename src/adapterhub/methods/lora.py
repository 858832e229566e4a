"""LoRA and DoRA: a weight W plus a product of two small matrices.

Hu et al. 2021 (lora):        W + s B A,  with A [r, in] and B [out, r]; s = alpha / r
Kalajdzievski 2023 (rsLoRA):  s = alpha / sqrt(r)
Liu et al. 2024 (dora):       m (W + s B A) / ||W + s B A||, with a trained length m for each output
Meng et al. 2024 (PiSSA):     W + s (B A - B0 A0), where B0 A0 are the first r components of W, and B A begins there
Büyükakyüz 2024 (OLoRA):      the same, where B0 and A0 are the first r columns and rows of Q and R of W
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import Place, Weight, seeded
from adapterhub.methods.gathered import LARGEST, gathered
from adapterhub.methods.low_rank import LowRankChange, lengths, nearest_factors
from adapterhub.methods.registry import register
from adapterhub.methods.targets import TargetsConfig, at_the_end, check_expressions


@dataclass(frozen=True, eq=False)
class LoRAConfig(TargetsConfig):
    """Every option of the LoRA family.

    Where it acts: as ``TargetsConfig`` says; roles and names are those of experts too, which get factors of their own
    each. ``"all-linear"`` leaves them out.

    Its size: ``r``, and ``alpha`` that scales by alpha / r (alpha / sqrt(r) with ``use_rslora``); ``rank_pattern`` and
    ``alpha_pattern`` give other values to some, by role or by a regular expression for the end of the path.

    ``dropout`` acts on its input in training; ``bias`` trains an offset of the output too; ``use_gating`` multiplies by
    a sigmoid gate, one a row; ``use_dora`` trains lengths and directions apart.

    ``init_weights``: ``"lora"`` uniform A, zero B; ``"gaussian"`` A normal(0, 1/r), zero B; ``"bert"`` A
    normal(0, 0.02), zero B; ``"pissa"`` the main components of the weight; ``"olora"`` the first part of its QR
    factors. All of them begin as the identity.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "lora"

    r: int = 8
    alpha: float = 8
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    bias: bool = False
    use_gating: bool = False
    use_dora: bool = False
    init_weights: Literal["lora", "gaussian", "bert", "pissa", "olora"] = "lora"
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rank_pattern", "alpha_pattern"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        self._require(all(is_rank(r) for r in (self.r, *self.rank_pattern.values())), "r", "whole and above 0")
        self._require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self._require(self.init_weights in _INITIALISATIONS, "init_weights", ", ".join(_INITIALISATIONS))
        self._require(not (self.use_dora and self.use_gating), "use_gating", "False with use_dora")
        check_expressions(map(at_the_end, (*self.rank_pattern, *self.alpha_pattern)), type(self).__name__)

    def build(self, place: Place) -> nn.Module | None:
        weight = self.weight_at(place)
        return LowRank(self, place, weight) if weight is not None and self.acts_at(place) else None

    def weight_at(self, place: Place) -> Weight | None:
        return place.any_weight

    def rank(self, place: Place) -> int:
        """r at a place."""
        return next((rank for pattern, rank in self.rank_pattern.items() if _matches(pattern, place)), self.r)

    def scaling(self, place: Place) -> float:
        """s at a place."""
        alpha = next((alpha for pattern, alpha in self.alpha_pattern.items() if _matches(pattern, place)), self.alpha)
        rank = self.rank(place)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


@dataclass(frozen=True, eq=False)
class DoRAConfig(LoRAConfig):
    """Weight-decomposed low-rank adaptation (Liu et al. 2024)."""

    use_dora: bool = True


class LowRank(LowRankChange):
    """The module of LoRA at one weight."""

    def __init__(self, config: LoRAConfig, place: Place, weight: Weight) -> None:
        super().__init__()
        out, *inner = weight.shape
        rank = config.rank(place)
        if rank > min(out, math.prod(inner)):
            raise ConfigError(
                f"{place.name}: r is {rank}, above the {min(out, math.prod(inner))} of the weight {tuple(weight.shape)}"
            )
        self.scaling, self.dropout = config.scaling(place), config.dropout
        several = () if weight.experts is None else (weight.experts,)
        if several and config.use_gating:
            raise ConfigError(f"{place.name}: use_gating has no meaning for experts, which read tokens of many rows")
        self._make_factors(config, place, (*several, rank, *inner), (*several, out, rank))
        self.bias = nn.Parameter(torch.zeros(*several, out)) if config.bias else None
        self.gate = nn.Linear(inner[0], 1) if config.use_gating else None
        self.lora_A0: Tensor | None
        self.lora_B0: Tensor | None
        self.register_buffer("lora_A0", None)
        self.register_buffer("lora_B0", None)
        generator = seeded(config.init_weights_seed, place.name)
        with torch.no_grad():
            _INITIALISATIONS[config.init_weights](self, weight, generator)
            if self.gate is not None:
                nn.init.normal_(self.gate.weight, std=0.02, generator=generator)
                nn.init.zeros_(self.gate.bias)
            self.magnitude = nn.Parameter(lengths(weight.by_output(self._matrix(weight)))) if config.use_dora else None

    def _make_factors(self, config: Any, place: Place, down: Sequence[int], up: Sequence[int]) -> None:
        """The parameters that ``factors`` is made of, of the shapes ``down`` and ``up``, with a B of zeros."""
        self.lora_A = nn.Parameter(torch.empty(*down))
        self.lora_B = nn.Parameter(torch.zeros(*up))

    def takes_stacks(self, weight: Weight) -> bool:
        """Whether it runs with stacked parameters as it is: where there is nothing but the two factors."""
        plain = self.bias is None and self.gate is None and self.magnitude is None
        return plain and weight.takes_stacks

    def gathers(self) -> bool:
        """Whether one kernel does for stacked parameters what it does, where it ``takes_stacks``."""
        begun = self.lora_A0 is not None  # PiSSA and OLoRA: factors are put together first
        return not begun and self.lora_B.shape[-1] <= LARGEST and not (self.training and self.dropout)

    def gathered_forward(self, which: Tensor | None, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """``forward`` with stacked parameters ``[adapters, ...]``, of which ``which`` ``[n]`` says those of each share.

        The other arguments are ``[n, ..., out]`` and ``[n, ..., in]``.
        """
        return self._gathered(which, output, inputs, output.dtype)

    def gathered_update(self, which: Tensor | None, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """``update``, as ``gathered_forward``."""
        return self._gathered(which, None, inputs, None)

    def _gathered(
        self, which: Tensor | None, residual: Tensor | None, inputs: Tensor, dtype: torch.dtype | None
    ) -> Tensor:
        down, up = self.factors()
        return gathered(inputs, residual, which, (down, None), (up, None), scaling=self.scaling, dtype=dtype)

    def factors(self) -> tuple[Tensor, Tensor]:
        if self.lora_A0 is None or self.lora_B0 is None:
            return self.lora_A, self.lora_B
        down = torch.cat((self.lora_A, self.lora_A0), dim=self.lora_B.dim() - 2)
        return down, torch.cat((self.lora_B, -self.lora_B0), dim=-1)


def _lora(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    inputs = math.prod(weight.shape[1:])
    nn.init.kaiming_uniform_(part.lora_A.view(-1, inputs), a=math.sqrt(5), generator=generator)


def _gaussian(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    nn.init.normal_(part.lora_A, std=1 / part.lora_B.shape[-1], generator=generator)


def _bert(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    nn.init.normal_(part.lora_A, std=0.02, generator=generator)


def _pissa(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    """B A is where it began taken off again, so that the base model does not change (it does in the paper)."""
    down, up = nearest_factors(weight.by_output(weight.matrix.detach()) / part.scaling, part.lora_B.shape[-1])
    _begin(part, down, up)


def _olora(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    """As PiSSA, by another factorisation (Büyükakyüz 2024)."""
    rank = part.lora_B.shape[-1]
    basis, triangle = torch.linalg.qr(weight.by_output(weight.matrix.detach()).float())
    _begin(part, triangle[..., :rank, :], basis[..., :rank])


def _begin(part: LowRank, down: Tensor, up: Tensor) -> None:
    part.lora_A.copy_(down.view_as(part.lora_A))
    part.lora_B.copy_(up)
    part.lora_A0, part.lora_B0 = part.lora_A.detach().clone(), part.lora_B.detach().clone()


_INITIALISATIONS = {"lora": _lora, "gaussian": _gaussian, "bert": _bert, "pissa": _pissa, "olora": _olora}


def _matches(pattern: str, place: Place) -> bool:
    return place.role == pattern or re.fullmatch(at_the_end(pattern), place.path) is not None


def is_rank(value: object) -> bool:
    """Whether it is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


register(LoRAConfig, {"lora": LoRAConfig(), "dora": DoRAConfig()})
