"""LoRA and DoRA: a weight W plus a product of two small matrices.

Hu et al. 2021 (lora):        W + s B A,  with A [r, in] and B [out, r]; s = alpha / r
Kalajdzievski 2023 (rsLoRA):  s = alpha / sqrt(r)
Liu et al. 2024 (dora):       m (W + s B A) / ||W + s B A||, with a trained length m for each output
Meng et al. 2024 (PiSSA):     W + s (B A - B0 A0), where B0 A0 are the first r components of W, and B A begins there
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Place, Weight, seeded
from adapterhub.methods.registry import register

ROLES = ("q", "k", "v", "o", "qkv", "kv", "up", "gate", "gate_up", "down")
ALL_LINEAR = "all-linear"
_ATTENTION = ("attention", "cross_attention")


@dataclass(frozen=True, eq=False)
class LoRAConfig(AdapterConfig):
    """Every option of the LoRA family.

    Where it acts: ``selfattn_lora`` at the projections of attention that ``attn_matrices`` lists (``q k v o``, also
    where they stand in one fused weight), ``intermediate_lora`` at those into the feed-forward, ``output_lora`` at the
    one out of it. ``target_modules`` takes the place of all four: a list of roles (``q k v o up gate down``), names of
    modules (``q_proj``, or the end of a path), or ``"all-linear"``, every linear map in the layers; or a text that is a
    regular expression for whole paths. ``leave_out`` names layers to skip, counted over the whole model.

    Its size: ``r``, and ``alpha`` that scales by alpha / r (alpha / sqrt(r) with ``use_rslora``); ``rank_pattern`` and
    ``alpha_pattern`` give other values to some, by role or by a regular expression for the end of the path.

    ``dropout`` acts on its input in training; ``bias`` trains an offset of the output too; ``use_gating`` multiplies by
    a sigmoid gate, one a row; ``use_dora`` trains lengths and directions apart.

    ``init_weights``: ``"lora"`` uniform A, zero B; ``"gaussian"`` A normal(0, 1/r), zero B; ``"bert"`` A
    normal(0, 0.02), zero B; ``"pissa"`` the main components of the weight. All of them begin as the identity.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "lora"

    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    attn_matrices: tuple[str, ...] = ("q", "v")
    target_modules: str | tuple[str, ...] | None = None
    leave_out: tuple[int, ...] = ()
    r: int = 8
    alpha: float = 8
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    bias: bool = False
    use_gating: bool = False
    use_dora: bool = False
    init_weights: Literal["lora", "gaussian", "bert", "pissa"] = "lora"
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("leave_out", "attn_matrices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.target_modules, str | None):
            object.__setattr__(self, "target_modules", tuple(self.target_modules))
        for name in ("rank_pattern", "alpha_pattern"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        self._require(all(_is_rank(r) for r in (self.r, *self.rank_pattern.values())), "r", "whole and above 0")
        self._require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self._require(self.init_weights in _INITIALISATIONS, "init_weights", ", ".join(_INITIALISATIONS))
        unknown = set(self.attn_matrices) - {"q", "k", "v", "o"}
        self._require(not unknown, "attn_matrices", "some of q, k, v and o")
        self._require(not (self.use_dora and self.use_gating), "use_gating", "False with use_dora")
        for pattern in (*self.rank_pattern, *self.alpha_pattern, *self._expressions()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{type(self).__name__}: {pattern!r} is no regular expression: {error}") from error

    def _require(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} must be {wanted}, and is {getattr(self, name)!r}")

    def _expressions(self) -> tuple[str, ...]:
        targets = self.target_modules
        return (targets,) if isinstance(targets, str) and targets not in (ALL_LINEAR, *ROLES) else ()

    def check(self, places: Sequence[Place]) -> None:
        """Every target has to be there.

        Raises:
            ConfigError: naming those that fit nothing, and what is near.
        """
        weights = [place for place in places if place.weight is not None]
        for target in _listed(self.target_modules):
            if any(self._fits(place, target) for place in weights):
                continue
            names = {place.role for place in weights} | {place.path.rpartition(".")[2] for place in weights}
            near = get_close_matches(target, names, n=5, cutoff=0.4)
            raise ConfigError(
                f"target_modules: no weight of this model is {target!r}. "
                + (f"Near: {', '.join(near)}." if near else f"There are: {', '.join(sorted(names))}.")
            )

    def build(self, place: Place) -> nn.Module | None:
        if place.weight is None:
            return None
        return LowRank(self, place, place.weight) if self.acts_at(place) else None

    def rank(self, place: Place) -> int:
        """r at a place."""
        return next((rank for pattern, rank in self.rank_pattern.items() if _matches(pattern, place)), self.r)

    def scaling(self, place: Place) -> float:
        """s at a place."""
        alpha = next((alpha for pattern, alpha in self.alpha_pattern.items() if _matches(pattern, place)), self.alpha)
        rank = self.rank(place)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def acts_at(self, place: Place) -> bool:
        """Whether there is a part at a place."""
        if place.weight is None or (place.layer is not None and place.layer in self.leave_out):
            return False
        if self.target_modules is not None:
            return any(self._fits(place, target) for target in _listed(self.target_modules))
        roles = set(self.attn_matrices) if self.selfattn_lora else set()
        roles |= {"up", "gate", "gate_up"} if self.intermediate_lora else set()
        roles |= {"down"} if self.output_lora else set()
        return place.role in roles

    def _fits(self, place: Place, target: str) -> bool:
        if target == ALL_LINEAR:
            return place.whole and place.layer is not None and place.role != "embedding"
        if target in self._expressions():
            return place.whole and re.fullmatch(target, place.path) is not None
        if place.role == target and place.role in ROLES:
            return True
        return place.whole and f".{place.path}".endswith(f".{target}")


@dataclass(frozen=True, eq=False)
class DoRAConfig(LoRAConfig):
    """Weight-decomposed low-rank adaptation (Liu et al. 2024)."""

    use_dora: bool = True


class LowRank(nn.Module):
    """The module of LoRA at one weight."""

    def __init__(self, config: LoRAConfig, place: Place, weight: Weight) -> None:
        super().__init__()
        out, *inner = weight.shape
        rank = config.rank(place)
        if rank > min(out, math.prod(inner)):
            raise ConfigError(
                f"{place.name}: r is {rank}, above the {min(out, math.prod(inner))} of the weight {tuple(weight.shape)}"
            )
        self.config = config
        self.scaling = config.scaling(place)
        self.lora_A = nn.Parameter(torch.empty(rank, *inner))
        self.lora_B = nn.Parameter(torch.zeros(out, rank))
        self.bias = nn.Parameter(torch.zeros(out)) if config.bias else None
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
            self.magnitude = nn.Parameter(_lengths(self._matrix(weight))) if config.use_dora else None

    def forward(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """Adapt the output of a base module.

        Args:
            output: what ``weight`` gave, its bias included, ``[..., out]``.
            inputs: what the module read, ``[..., in]`` (ids of an embedding, an image of a convolution).
            weight: the weight.

        Returns:
            Of the shape and data type of ``output``.
        """
        return output + self.update(output, inputs, weight).to(output.dtype)

    def update(self, output: Tensor, inputs: Tensor, weight: Weight) -> Tensor:
        """What ``forward`` adds to ``output``."""
        read = inputs
        if inputs.is_floating_point():
            if not torch.is_autocast_enabled(inputs.device.type):
                read = inputs.to(self.lora_A.dtype)
            if self.training and self.config.dropout:
                read = F.dropout(read, self.config.dropout)
        down, up = self._factors()
        update = self.scaling * weight.apply_factors(down, up, read)
        if self.magnitude is not None:
            return self._rescaled(output, update, weight)
        if self.bias is not None:
            update = update + weight.spread(self.bias)
        if self.gate is not None:
            update = update * torch.sigmoid(self.gate(read)).mean(dim=-2, keepdim=True)
        return update

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives what it gives with this part.

        Raises:
            ConfigError: for a gate, which depends on the input.
        """
        if self.gate is not None:
            raise ConfigError("a gated LoRA cannot be merged: its gate depends on the input")
        matrix = self._matrix(weight)
        if self.magnitude is not None:
            matrix = matrix * _column(self.magnitude / _lengths(matrix), matrix)
        bias = weight.bias
        if self.bias is not None:
            bias = self.bias if bias is None else bias.float() + self.bias
        return matrix, bias

    def _rescaled(self, output: Tensor, update: Tensor, weight: Weight) -> Tensor:
        assert self.magnitude is not None
        lengths = _lengths(self._matrix(weight).detach())  # held constant in the backward pass (section 4.3)
        scale = weight.spread(self.magnitude / lengths)
        bias = 0.0 if weight.bias is None else weight.spread(weight.bias)
        bare = output - bias
        rescaled: Tensor = scale * (bare + update) - bare
        return rescaled if self.bias is None else rescaled + weight.spread(self.bias)

    def _factors(self) -> tuple[Tensor, Tensor]:
        if self.lora_A0 is None or self.lora_B0 is None:
            return self.lora_A, self.lora_B
        return torch.cat((self.lora_A, self.lora_A0)), torch.cat((self.lora_B, -self.lora_B0), dim=1)

    def _matrix(self, weight: Weight) -> Tensor:
        """W + s B A, in full precision."""
        down, up = self._factors()
        base = weight.matrix.to(self.lora_A.dtype)
        return base + self.scaling * (up @ down.flatten(1)).view_as(base)


def _lengths(matrix: Tensor) -> Tensor:
    """Euclidean norm of the weights of each output, ``[out]``."""
    return torch.linalg.vector_norm(matrix.flatten(1), dim=1)


def _column(values: Tensor, matrix: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (matrix.dim() - 1))


def _lora(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    nn.init.kaiming_uniform_(part.lora_A.flatten(1), a=math.sqrt(5), generator=generator)


def _gaussian(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    nn.init.normal_(part.lora_A, std=1 / part.lora_A.shape[0], generator=generator)


def _bert(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    nn.init.normal_(part.lora_A, std=0.02, generator=generator)


def _pissa(part: LowRank, weight: Weight, generator: torch.Generator | None) -> None:
    """B A is where it began taken off again, so that the base model does not change (it does in the paper)."""
    rank = part.lora_A.shape[0]
    left, values, right = torch.linalg.svd(weight.matrix.detach().flatten(1).float(), full_matrices=False)
    root = (values[:rank] / part.scaling).sqrt()
    part.lora_A.copy_((root[:, None] * right[:rank]).view_as(part.lora_A))
    part.lora_B.copy_(left[:, :rank] * root)
    part.lora_A0, part.lora_B0 = part.lora_A.detach().clone(), part.lora_B.detach().clone()


_INITIALISATIONS = {"lora": _lora, "gaussian": _gaussian, "bert": _bert, "pissa": _pissa}


def _listed(targets: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)


def _matches(pattern: str, place: Place) -> bool:
    return place.role == pattern or re.fullmatch(rf"(.*\.)?({pattern})", place.path) is not None


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


register(LoRAConfig, {"lora": LoRAConfig(), "dora": DoRAConfig()})
