"""Prefix tuning: keys and values of trained tokens before those of the text, in every attention (Li and Liang 2021).

Reparametrised (section 4.3), they come out of a small network: a table of embeddings, a linear map and tanh, which the
layers of a tower share, and a linear map for each layer. Flat, they are parameters themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import AdapterConfig, Modules, Place, seeded
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class PrefixTuningConfig(AdapterConfig):
    """Every option of prefix tuning.

    ``prefix_length`` tokens; ``flat`` without the network, whose inner width is ``bottleneck_size`` and whose
    ``non_linearity`` is tanh. ``encoder_prefix`` and ``cross_prefix`` say whether the encoder's own and the decoder's
    cross-attention of an encoder-decoder have prefixes; ``leave_out`` names layers to skip. ``dropout`` acts on keys
    and values in training. ``use_gating`` multiplies them by sigmoid gates of the attention's input, one for keys and
    values together or, with ``shared_gating`` False, one for each. With ``shift_positions`` the text's positions are
    counted from the end of the prefix, as where a prefix is taken for tokens that were read before (PEFT does). With
    ``prefix_in_position_bias`` the relative position bias of T5 and its like is that of all keys, those of the prefix
    first, while queries are counted without them, so that distances between tokens of the text are moved by the length
    of the prefix (``adapters`` does).

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "prefix_tuning"

    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: tuple[int | str, ...] = ()
    flat: bool = False
    prefix_length: int = 30
    bottleneck_size: int = 512
    non_linearity: str = "tanh"
    dropout: float = 0.0
    use_gating: bool = False
    shared_gating: bool = True
    shift_positions: bool = False
    prefix_in_position_bias: bool = False
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        activation(self.non_linearity)
        for name in ("prefix_length", "bottleneck_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(f"{type(self).__name__}: {name} must be at least 1, and is {getattr(self, name)!r}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{type(self).__name__}: dropout must be in [0, 1), and is {self.dropout!r}")
        if self.shift_positions and self.prefix_in_position_bias:
            raise ConfigError(
                f"{type(self).__name__}: shift_positions is for models that are told positions, "
                "prefix_in_position_bias for those that measure distances: choose one"
            )

    def modules(self, places: Sequence[Place]) -> Modules:
        chosen = [place for place in places if self.acts_at(place, places)]
        if self.flat:
            return Modules({place.name: Prefix(self, place, None) for place in chosen})
        nets = nn.ModuleDict()
        for place in chosen:
            if prefix_location(place) not in nets:
                nets[prefix_location(place)] = PrefixNet(self, place.width, prefix_location(place))
        parts = {place.name: Prefix(self, place, nets[prefix_location(place)]) for place in chosen}
        return Modules(parts, nets if chosen else None)

    def acts_at(self, place: Place, places: Sequence[Place]) -> bool:
        """Whether there is a prefix at a place, one of those of a model."""
        if place.kind != "attention" or place.is_in(self.leave_out):
            return False
        if place.role == "cross_keys_values":
            return self.cross_prefix
        return self.encoder_prefix or not (place.tower.endswith("encoder") and _several_towers(places))


class PrefixNet(nn.Module):
    """What the layers of a tower share: from no input to ``[prefix, bottleneck]``."""

    def __init__(self, config: PrefixTuningConfig, width: int, name: str) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.prefix_length, width)
        self.linear = nn.Linear(width, config.bottleneck_size)
        self.activation = activation(config.non_linearity)
        generator = seeded(config.init_weights_seed, name)
        nn.init.normal_(self.wte.weight, generator=generator)
        _initialise(self.linear, generator)

    def forward(self) -> Tensor:
        """``[prefix, bottleneck]``."""
        return self.activation(self.linear(self.wte.weight))


class Prefix(nn.Module):
    """Keys and values of the prefix at one attention."""

    def __init__(self, config: PrefixTuningConfig, place: Place, net: nn.Module | None) -> None:
        super().__init__()
        if place.heads is None:
            raise ConfigError(f"{place.name} is no attention")
        heads, key, value = place.heads
        self.heads, self.widths, self.dropout = heads, (key, value), config.dropout
        self.shift = config.prefix_length if config.shift_positions else 0
        self.in_position_bias = config.prefix_in_position_bias and place.role != "cross_keys_values"  # which has none
        self._shared: tuple[Any, ...] = () if net is None else (net,)  # in a tuple, it is no part of this module
        generator = seeded(config.init_weights_seed, place.name)
        size = heads * (key + value)
        self.prefix = nn.Parameter(torch.empty(config.prefix_length, size)) if net is None else None
        self.linear = None if net is None else nn.Linear(config.bottleneck_size, size)
        self.gate = nn.Linear(place.width, 1 if config.shared_gating else 2) if config.use_gating else None
        if self.prefix is not None:
            nn.init.normal_(self.prefix, generator=generator)
        if self.linear is not None:
            _initialise(self.linear, generator)
        if self.gate is not None:
            nn.init.normal_(self.gate.weight, std=0.02, generator=generator)
            nn.init.zeros_(self.gate.bias)

    def keys_values(self) -> Tensor:
        """Keys and then values of every head, ``[prefix, heads * (key + value)]``."""
        if self.prefix is not None:
            return self.prefix
        (net,) = self._shared
        linear: Any = self.linear
        made: Tensor = linear(net().to(linear.weight.device))
        return made

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix for a batch.

        Args:
            hidden_states: what the attention reads, ``[batch, seq, hidden]``.

        Returns:
            Keys and values, ``[batch, heads, prefix, width of a head]``.
        """
        rows = hidden_states.shape[0]
        made = self.keys_values()
        if self.training and self.dropout:
            made = nn.functional.dropout(made, self.dropout)
        sizes = [self.heads * width for width in self.widths]
        keys, values = (
            part.view(-1, self.heads, width).transpose(0, 1).expand(rows, -1, -1, -1)
            for part, width in zip(made.split(sizes, dim=-1), self.widths, strict=True)
        )
        if self.gate is not None:
            scores = torch.sigmoid(self.gate(hidden_states.to(made.dtype))).mean(dim=1)  # [batch, 1 or 2]
            keys, values = keys * scores[:, 0].view(-1, 1, 1, 1), values * scores[:, -1].view(-1, 1, 1, 1)
        return keys, values


def _initialise(linear: nn.Linear, generator: torch.Generator | None) -> None:
    bound = linear.in_features**-0.5
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)


def _several_towers(places: Sequence[Place]) -> bool:
    return len({place.tower for place in places if place.kind == "attention"}) > 1


def prefix_location(place: Place) -> str:
    """The name of the network that a place shares with others: that of its tower, or ``cross``."""
    return "cross" if place.role == "cross_keys_values" else place.tower.replace(".", "_") or "self"


register(
    PrefixTuningConfig,
    {"prefix_tuning": PrefixTuningConfig(), "prefix_tuning_flat": PrefixTuningConfig(flat=True)},
)
