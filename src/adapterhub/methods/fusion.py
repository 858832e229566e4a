"""AdapterFusion: attention over what several adapters change, trained after them (Pfeiffer et al. 2021, section 3).

Query: what the last adapter reads, at each position. Keys and values: the changes. The fused change is the sum of
the values, weighed by softmax(query · key).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.errors import ConfigError

_REGULARISATION = 0.01
_FIRST_TEMPERATURE, _COOLING_STEPS = 50.0, 1000


@dataclass(frozen=True, eq=False)
class AdapterFusionConfig:
    """Every option of a fusion.

    ``key``, ``query``, ``value``: whether there is such a matrix. ``value_initialized`` starts the values at the
    identity and noise of size 1e-6, as in the paper, else at normal(0, 0.02). ``regularization`` adds
    0.01 ‖I - V‖² to the loss. ``value_before_softmax`` False applies the values' matrix to the sum of changes.
    ``query_before_ln`` asks with the output of the sublayer as it is. ``residual_before`` fuses results in the place of
    changes. ``temperature`` divides the scores by 50 at first, and by 1 after 1000 steps of training. ``dropout_prob``
    drops attention in training.

    Raises:
        ConfigError: for a dropout that is no probability below 1.
    """

    key: bool = True
    query: bool = True
    value: bool = True
    query_before_ln: bool = False
    regularization: bool = True
    residual_before: bool = False
    temperature: bool = False
    value_before_softmax: bool = True
    value_initialized: bool = True
    dropout_prob: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= (self.dropout_prob or 0.0) < 1:
            raise ConfigError(f"{type(self).__name__}: dropout_prob must be in [0, 1), and is {self.dropout_prob}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdapterFusionConfig) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            ConfigError: for an unknown field, naming those there are.
        """
        _check_names(changes)
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration with the given fields.

        Raises:
            ConfigError: for an unknown field, naming those there are.
        """
        _check_names(values)
        return cls(**values)

    @staticmethod
    def load(source: "AdapterFusionConfig | str | Mapping[str, Any] | None" = None, **overrides: Any) -> Any:
        """A configuration from an object, ``"static"`` or ``"dynamic"`` (the default), or a dictionary of fields.

        Raises:
            ConfigError: for an unknown name or field.
        """
        if source is None or isinstance(source, str):
            name = source or "dynamic"
            if name not in _NAMED:
                raise ConfigError(f"unknown configuration of a fusion {name!r}. Known: {', '.join(_NAMED)}.")
            config = _NAMED[name]()
        else:
            config = source if isinstance(source, AdapterFusionConfig) else AdapterFusionConfig.from_dict(source)
        return config.replace(**overrides) if overrides else config


@dataclass(frozen=True, eq=False)
class StaticAdapterFusionConfig(AdapterFusionConfig):
    """Without a matrix of values: changes are weighed as they are."""

    value: bool = False
    regularization: bool = False
    value_initialized: bool = False


@dataclass(frozen=True, eq=False)
class DynamicAdapterFusionConfig(AdapterFusionConfig):
    """With a matrix of values: the one of the paper."""


_NAMED = {"static": StaticAdapterFusionConfig, "dynamic": DynamicAdapterFusionConfig}


class FusionLayer(nn.Module):
    """The attention of a fusion at one site of width ``width``."""

    def __init__(self, config: AdapterFusionConfig, width: int) -> None:
        super().__init__()
        self.temperature: Tensor
        self.config = config
        self.query = _linear(width) if config.query else None
        self.key = _linear(width) if config.key else None
        self.value = nn.Linear(width, width, bias=False) if config.value else None
        if self.value is not None:
            nn.init.normal_(self.value.weight, std=1e-6 if config.value_initialized else 0.02)
            if config.value_initialized:
                with torch.no_grad():
                    self.value.weight.fill_diagonal_(1.0)
        if config.temperature:
            self.register_buffer("temperature", torch.tensor(_FIRST_TEMPERATURE))

    def forward(self, state: Tensor, query: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            state: what is changed, ``[..., width]``.
            query: what the last adapter reads, of the same shape.
            changes: what each adapter changes, ``[..., adapters, width]``.

        Returns:
            The fused change ``[..., width]``, and the attention ``[..., adapters]``.
        """
        config = self.config
        asked = state if config.query_before_ln else query
        if not torch.is_autocast_enabled(state.device.type) and (own := next(self.parameters(), None)) is not None:
            asked, changes = asked.to(own.dtype), changes.to(own.dtype)
        if config.residual_before:
            changes = changes + state.unsqueeze(-2)
        value = self.value
        keys = changes if self.key is None else self.key(changes)
        values = changes if value is None or not config.value_before_softmax else value(changes)
        asked = asked if self.query is None else self.query(asked)
        scores = (keys @ asked.to(keys.dtype).unsqueeze(-1)).squeeze(-1)
        attention = torch.softmax(scores / self._cooled(), dim=-1)
        weights = F.dropout(attention, config.dropout_prob or 0.0, self.training)
        fused: Tensor = (weights.to(values.dtype).unsqueeze(-2) @ values).squeeze(-2)
        if value is not None and not config.value_before_softmax:
            fused = value(fused)
        return fused - state if config.residual_before else fused, attention

    def regularisation(self) -> Tensor | None:
        """0.01 ‖I - V‖², which keeps the values near the identity (section 3.2); None where it is not wanted."""
        if self.value is None or not self.config.regularization:
            return None
        weight = self.value.weight
        identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        return _REGULARISATION * (identity - weight).square().sum()

    def _cooled(self) -> Tensor | float:
        if not self.config.temperature:
            return 1.0
        now = self.temperature.clone()
        if self.training:
            self.temperature.copy_((now - _FIRST_TEMPERATURE / _COOLING_STEPS).clamp(min=1.0))
        return now


def _linear(width: int) -> nn.Linear:
    made = nn.Linear(width, width)
    nn.init.normal_(made.weight, std=0.02)
    nn.init.zeros_(made.bias)
    return made


def _check_names(given: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(AdapterFusionConfig)]
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(f"a fusion has no option {', '.join(unknown)}. Its options: {', '.join(known)}.")
