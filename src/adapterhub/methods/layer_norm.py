"""Layer-norm tuning: the norms alone are trained (Zhao et al. 2024, "Tuning LayerNorm in Attention")."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from adapterhub.methods.base import AdapterConfig, OwnNorm, Place
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class LayerNormConfig(AdapterConfig):
    """A copy of every norm of the base model, trained; ``leave_out`` names layers to skip."""

    method: ClassVar[str] = "ln_tuning"

    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))

    def build(self, place: Place) -> nn.Module | None:
        if place.norm is None or place.is_in(self.leave_out):
            return None
        return OwnNorm(place.norm) if any(True for _ in place.norm.parameters()) else None


register(LayerNormConfig, {"ln_tuning": LayerNormConfig()})
