"""Layer-norm tuning: the norms alone are trained (Zhao et al. 2024, "Tuning LayerNorm in Attention")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from adapterhub.methods.base import AdapterConfig, OwnNorm, Place
from adapterhub.methods.registry import register
from adapterhub.methods.targets import check_expressions, check_targets, expressions, fits


@dataclass(frozen=True, eq=False)
class LayerNormConfig(AdapterConfig):
    """A copy of every norm of the base model, trained; ``leave_out`` names layers to skip.

    ``target_modules`` narrows it to some: names of modules (the end of a path), or a text that is a regular expression
    for whole paths.

    Raises:
        ConfigError: for a text that is none.
    """

    method: ClassVar[str] = "ln_tuning"

    leave_out: tuple[int | str, ...] = ()
    target_modules: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        if not isinstance(self.target_modules, str | None):
            object.__setattr__(self, "target_modules", tuple(self.target_modules))
        check_expressions(expressions(self.target_modules), type(self).__name__)

    def check(self, places: Sequence[Place]) -> None:
        super().check(places)
        check_targets(self.target_modules, [place for place in places if place.norm is not None])

    def acts_at(self, place: Place) -> bool:
        """Whether there is a copy at a place."""
        if place.norm is None or place.is_in(self.leave_out) or next(place.norm.parameters(), None) is None:
            return False
        return self.target_modules is None or fits(place, self.target_modules)

    def build(self, place: Place) -> nn.Module | None:
        return OwnNorm(place.norm) if place.norm is not None and self.acts_at(place) else None


register(LayerNormConfig, {"ln_tuning": LayerNormConfig()})
