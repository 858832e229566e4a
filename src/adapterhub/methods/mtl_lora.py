"""MTL-LoRA: one LoRA for several tasks, of which each turns what it reads and mixes what it gives (Yang et al. 2024).

W + s (sum over i of p_i B_i) T A, with p = softmax(w / sharpness) (section 3.2). A [r, in] and the B_i [out, r] are
those of all tasks; T [r, r] and w are a task's own. An adapter is the part of one task: ``share_parameters`` makes
adapters hold A and the B_i in common.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from adapterhub.methods.base import Place, Weight, seeded
from adapterhub.methods.lora import LoRAConfig, LowRank, is_rank
from adapterhub.methods.registry import register

_MATRICES = ("singular_values", "linear")
_STARTS = ("lora", "gaussian", "bert")


@dataclass(frozen=True, eq=False)
class MTLLoRAConfig(LoRAConfig):
    """LoRA for several tasks; options that are not here are those of ``LoRAConfig``.

    ``n_up_projection`` is the number of the B_i. ``task_specific_matrix_type`` says whether T is diagonal
    (``"singular_values"``) or full (``"linear"``); it begins as the identity. A small ``weights_sharpness`` makes a
    task choose among the B_i, a large one mix them. The w begin at random, or all B_i would stay alike.

    Raises:
        ConfigError: for a value out of range, or an ``init_weights`` that takes its start off again.
    """

    method: ClassVar[str] = "mtl_lora"

    n_up_projection: int = 1
    task_specific_matrix_type: Literal["singular_values", "linear"] = "singular_values"
    weights_sharpness: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(is_rank(self.n_up_projection), "n_up_projection", "whole and above 0")
        self._require(self.task_specific_matrix_type in _MATRICES, "task_specific_matrix_type", " or ".join(_MATRICES))
        self._require(self.weights_sharpness > 0, "weights_sharpness", "above 0")
        self._require(self.init_weights in _STARTS, "init_weights", "lora, gaussian or bert")

    def build(self, place: Place) -> nn.Module | None:
        weight = self.weight_at(place)
        return TaskLowRank(self, place, weight) if weight is not None and self.acts_at(place) else None


class TaskLowRank(LowRank):
    """The module of MTL-LoRA at one weight, for one task; what it shares with other tasks is ``shareable``."""

    shareable = ("lora_A", "lora_B")

    def _make_factors(self, config: MTLLoRAConfig, place: Place, down: Sequence[int], up: Sequence[int]) -> None:
        count, rank = config.n_up_projection, up[-1]
        self.weights_sharpness = config.weights_sharpness
        self.lora_A = nn.Parameter(torch.empty(*down))
        self.lora_B = nn.Parameter(torch.zeros(count, *up))
        diagonal = config.task_specific_matrix_type == "singular_values"
        self.task_matrix = nn.Parameter(torch.ones(rank) if diagonal else torch.eye(rank))
        generator = seeded(config.init_weights_seed, f"{place.name}.up_weights")
        self.up_weights = nn.Parameter(torch.empty(count))
        nn.init.uniform_(self.up_weights, -1 / math.sqrt(count), 1 / math.sqrt(count), generator=generator)

    def takes_stacks(self, weight: Weight) -> bool:
        return False  # the factors are products of others

    def factors(self) -> tuple[Tensor, Tensor]:
        *several, _, rank = self.lora_B.shape[1:]
        down = self.lora_A.view(*several, rank, -1)
        down = self.task_matrix[:, None] * down if self.task_matrix.dim() == 1 else self.task_matrix @ down
        shares = torch.softmax(self.up_weights / self.weights_sharpness, dim=0)
        return down.view_as(self.lora_A), torch.tensordot(shares, self.lora_B, dims=1)


register(MTLLoRAConfig, {"mtl_lora": MTLLoRAConfig()})
