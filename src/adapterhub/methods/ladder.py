"""Ladder side-tuning: a small network beside the base, which reads its layers and writes into none (Sung et al. 2022).

A rung of it stands beside each layer i of the base. With h_i what that layer reads, s_i the side state, W_i [w, hidden]
of width w = hidden / reduction_factor, and temperature T (section 3 of the paper):

    x_i = m_i W_i h_i + (1 - m_i) s_i,  m_i = sigmoid(a_i / T)        for the first rung x = W h
    s_{i+1} = block_i(x_i)                                            a transformer block of width w
    output = h + W_up s                                               after the last layer; or W_up s alone

No gradient enters the base: a step costs its forward pass, and with the states of its layers at hand next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapterhub.errors import ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import AdapterConfig, Modules, Place, seeded
from adapterhub.methods.registry import register

_EXPANSION = 4  # of the feed-forward of a block


@dataclass(frozen=True, eq=False)
class LadderConfig(AdapterConfig):
    """Every option of ladder side-tuning.

    The side network is ``reduction_factor`` times narrower than the base, and its attention has ``heads`` heads.
    ``temperature`` is that of the gates, which start at one half. With ``add_to_base`` its output is added to that of
    the last layer, and starts at nothing; without, it takes its place, as in the paper. Layers in ``leave_out`` have no
    rung (the paper drops some too); ``dropout`` acts inside of blocks, in training.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "ladder"

    reduction_factor: float = 8
    heads: int = 4
    temperature: float = 0.1
    add_to_base: bool = True
    non_linearity: str = "gelu"
    dropout: float = 0.0
    leave_out: tuple[int | str, ...] = ()
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        activation(self.non_linearity)
        self._require(self.reduction_factor >= 1, "reduction_factor", "at least 1")
        self._require(isinstance(self.heads, int) and self.heads >= 1, "heads", "a whole number of at least 1")
        self._require(self.temperature > 0, "temperature", "above 0")
        self._require(0 <= self.dropout < 1, "dropout", "in [0, 1)")

    def modules(self, places: Sequence[Place]) -> Modules:
        beside = [place for place in places if place.kind == "side"]
        towers = sorted({place.tower for place in beside})
        if len(towers) > 1:
            raise ConfigError(f"a ladder stands beside a model of one tower, and this one has {', '.join(towers)}")
        rungs = [place for place in beside if not place.is_in(self.leave_out)]
        if not rungs:
            return Modules({})
        parts: dict[str, nn.Module] = {place.name: Rung(self, place, place is not rungs[0]) for place in rungs}
        last = beside[-1]
        parts[last.name] = LastRung(self, last, last is not rungs[0], last in rungs)
        return Modules(parts)


class Rung(nn.Module):
    """What stands beside one layer: it takes what the layer reads into the side state."""

    is_last = False

    def __init__(self, config: LadderConfig, place: Place, gated: bool, has_block: bool = True) -> None:
        super().__init__()
        self.config = config
        self.down, self.alpha, self.block = None, None, None
        if has_block:
            width = _width(config, place)
            self.down = nn.Linear(place.width, width)
            self.alpha = nn.Parameter(torch.zeros(1)) if gated else None
            self.block = Block(config, width, place.causal)
        _initialise(self, config.init_weights_seed, place.name)

    def forward(self, inputs: Tensor, before: Tensor | None, text: Tensor) -> Tensor:
        """The side state after this rung, ``[batch, seq, w]``.

        Args:
            inputs: what the layer of the base reads, ``[batch, seq, hidden]``.
            before: the side state after the rung before, None at the first that acts.
            text: True for what is no padding, ``[batch, seq]``.
        """
        if self.down is None or self.block is None:
            assert before is not None
            return before
        own = self.down.weight.dtype
        inputs = inputs.detach()
        state: Tensor = self.down(inputs if torch.is_autocast_enabled(inputs.device.type) else inputs.to(own))
        if self.alpha is not None and before is not None:
            gate = torch.sigmoid(self.alpha / self.config.temperature)
            state = gate * state + (1 - gate) * before
        after: Tensor = self.block(state, text)
        return after


class LastRung(Rung):
    """That beside the last layer, which writes what the ladder has come to; without a block where it is left out."""

    is_last = True

    def __init__(self, config: LadderConfig, place: Place, gated: bool, has_block: bool) -> None:
        super().__init__(config, place, gated, has_block)
        self.up = nn.Linear(_width(config, place), place.width)
        _initialise(self.up, config.init_weights_seed, f"{place.name}.up")
        if config.add_to_base:
            nn.init.zeros_(self.up.weight)

    def output(self, hidden_states: Tensor, side: Tensor) -> Tensor:
        """What the last layer gave, ``[batch, seq, hidden]``, with what the ladder gives added, or in its place."""
        written: Tensor = self.up(side).to(hidden_states.dtype)
        return hidden_states + written if self.config.add_to_base else written


class Block(nn.Module):
    """A transformer block with norms before its sublayers: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: LadderConfig, width: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, _EXPANSION * width), nn.Linear(_EXPANSION * width, width)

    def forward(self, state: Tensor, text: Tensor) -> Tensor:
        """``state`` ``[batch, seq, w]``, of which each position sees those of the ``text`` ``[batch, seq]``.

        Where the base is a decoder, only those up to itself.
        """
        state = state + self._dropped(self._attention(self.attention_norm(state), text))
        inner = activation(self.config.non_linearity)(self.up(self.feed_forward_norm(state)))
        return state + self._dropped(self.down(inner))

    def _attention(self, state: Tensor, text: Tensor) -> Tensor:
        seq = state.shape[1]
        q, k, v = self.qkv(state).unflatten(-1, (3, self.config.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = text[:, None, None, :].expand(-1, 1, seq, -1)
        if self.causal:
            seen = seen & torch.ones(seq, seq, dtype=torch.bool, device=state.device).tril()
        # Padding sees itself, or its state would be no number.
        seen = seen | torch.eye(seq, dtype=torch.bool, device=state.device)
        found = F.scaled_dot_product_attention(q, k, v, seen)
        result: Tensor = self.o(found.transpose(1, 2).flatten(2))
        return result

    def _dropped(self, state: Tensor) -> Tensor:
        return F.dropout(state, self.config.dropout, self.training)


def _width(config: LadderConfig, place: Place) -> int:
    """The width of the side network.

    Raises:
        ConfigError: if its heads cannot share it.
    """
    width = int(place.width // config.reduction_factor)
    if not width or width % config.heads:
        raise ConfigError(
            f"{place.name}: a side network of width {width} ({place.width} / {config.reduction_factor:g}) cannot be "
            f"divided by {config.heads} heads"
        )
    return width


@torch.no_grad()
def _initialise(module: nn.Module, seed: int | None, name: str) -> None:
    """Matrices are drawn with a standard deviation of 0.02, and biases are 0."""
    for path, one in module.named_modules():
        if isinstance(one, nn.Linear):
            nn.init.normal_(one.weight, std=0.02, generator=seeded(seed, f"{name}.{path}"))
            nn.init.zeros_(one.bias)


register(LadderConfig, {"lst": LadderConfig()})
