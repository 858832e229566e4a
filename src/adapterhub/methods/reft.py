"""ReFT: the residual stream after a layer, changed in a small subspace at some positions (Wu et al. 2024).

LoReFT (equation 2):   h + R^T (W h + b - R h), with R [r, hidden] of orthonormal rows
NoReFT:                the same without orthonormality
DiReFT (equation 3):   h + R^T (W h + b)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import AdapterConfig, Place, seeded
from adapterhub.methods.registry import register


@dataclass(frozen=True, eq=False)
class ReftConfig(AdapterConfig):
    """Every option of ReFT.

    It acts at the first ``prefix_positions`` and the last ``suffix_positions`` tokens of a text, padding and what is
    generated aside, after the ``layers`` (numbers over the whole model, or ``"all"``) that ``leave_out`` does not name.
    First and last tokens have maps of their own unless ``tied_weights``. ``r`` is the size of the subspace;
    ``orthogonality`` and ``subtract_projection`` tell the three kinds apart; ``non_linearity`` acts on W h + b.
    ``dropout`` acts on the change, in training.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "reft"

    layers: Literal["all"] | tuple[int, ...] = "all"
    leave_out: tuple[int | str, ...] = ()
    prefix_positions: int = 3
    suffix_positions: int = 0
    r: int = 1
    orthogonality: bool = True
    subtract_projection: bool = True
    tied_weights: bool = False
    dropout: float = 0.05
    non_linearity: str | None = None
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        if self.layers != "all":
            object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        if self.non_linearity is not None:
            activation(self.non_linearity)
        for name, least in {"prefix_positions": 0, "suffix_positions": 0, "r": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{type(self).__name__}: {name} must be at least {least}, and is {value!r}")
        if not self.prefix_positions + self.suffix_positions:
            raise ConfigError(f"{type(self).__name__}: with no positions it would change nothing")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{type(self).__name__}: dropout must be in [0, 1), and is {self.dropout!r}")

    def build(self, place: Place) -> nn.Module | None:
        if place.kind != "layer" or place.is_in(self.leave_out):
            return None
        if self.layers != "all" and place.layer not in self.layers:
            return None
        if self.r > place.width:
            raise ConfigError(f"{place.name}: r is {self.r}, above the width {place.width}")
        return Intervention(self, place)


@dataclass(frozen=True, eq=False)
class LoReftConfig(ReftConfig):
    """Low-rank linear subspace ReFT (Wu et al. 2024, equation 2)."""


@dataclass(frozen=True, eq=False)
class NoReftConfig(ReftConfig):
    """LoReFT without orthonormality."""

    orthogonality: bool = False


@dataclass(frozen=True, eq=False)
class DiReftConfig(ReftConfig):
    """The direct change, without the projection taken off (Wu et al. 2024, equation 3)."""

    orthogonality: bool = False
    subtract_projection: bool = False


class Intervention(nn.Module):
    """The module of ReFT after one layer."""

    def __init__(self, config: ReftConfig, place: Place) -> None:
        super().__init__()
        self.spans = (config.prefix_positions, config.suffix_positions)
        count = 1 if config.tied_weights or 0 in self.spans else 2
        self.units = nn.ModuleList(Subspace(config, place.width, f"{place.name}.{index}") for index in range(count))

    def forward(self, hidden_states: Tensor, positions: Tensor) -> Tensor:
        """Change some positions.

        Args:
            hidden_states: what the layer gave, ``[batch, seq, hidden]``.
            positions: of every token, counted from the first and from the last one of the text, ``[batch, seq, 2]``;
                -1 for tokens that are no part of it.

        Returns:
            Of the shape and data type of ``hidden_states``.
        """
        return hidden_states + self.update(hidden_states, positions).to(hidden_states.dtype)

    def update(self, hidden_states: Tensor, positions: Tensor) -> Tensor:
        """What ``forward`` adds."""
        inside = [(at >= 0) & (at < span) for at, span in zip(positions.unbind(-1), self.spans, strict=True)]
        first, last = inside[0], inside[1] & ~inside[0]
        masks = [first | last] if len(self.units) == 1 else [first, last]
        changes = [unit(hidden_states) * mask.unsqueeze(-1) for unit, mask in zip(self.units, masks, strict=True)]
        return changes[0] if len(changes) == 1 else changes[0] + changes[1]


class Subspace(nn.Module):
    """W, b and R. It begins with W h + b - R h (in DiReFT, W h + b) equal to 0, which changes nothing."""

    def __init__(self, config: ReftConfig, width: int, name: str) -> None:
        super().__init__()
        self.config = config
        self.learned_source = nn.Linear(width, config.r)
        self.projection = nn.Parameter(torch.empty(config.r, width))
        nn.init.orthogonal_(self.projection, generator=seeded(config.init_weights_seed, name))
        nn.init.zeros_(self.learned_source.bias)
        with torch.no_grad():
            if config.subtract_projection:
                self.learned_source.weight.copy_(self.rotation())
            else:
                self.learned_source.weight.zero_()

    def rotation(self) -> Tensor:
        """R ``[r, hidden]``; its rows made orthonormal, which they stay if they are."""
        if not self.config.orthogonality:
            return self.projection
        with torch.autocast(self.projection.device.type, enabled=False):
            if torch.compiler.is_exporting():  # ONNX has no QR decomposition
                return _gram_schmidt(self.projection)
            basis, triangle = torch.linalg.qr(self.projection.T)
            signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
            return (basis * signs.to(basis.dtype)).T

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The change of every position, ``[batch, seq, hidden]``."""
        own = self.projection.dtype
        read = hidden_states if torch.is_autocast_enabled(hidden_states.device.type) else hidden_states.to(own)
        rotation = self.rotation()
        source = self.learned_source(read)
        if self.config.non_linearity is not None:
            source = activation(self.config.non_linearity)(source)
        if self.config.subtract_projection:
            source = source - nn.functional.linear(read, rotation)
        change: Tensor = source @ rotation
        return nn.functional.dropout(change, self.config.dropout, self.training)


def _gram_schmidt(matrix: Tensor) -> Tensor:
    """``matrix`` ``[r, width]`` with rows made orthonormal, each against those before it: what QR gives, row by row."""
    rows: list[Tensor] = []
    for row in matrix:
        for _ in range(2):  # the second time takes off what rounding left
            for done in rows:
                row = row - (row * done).sum() * done
        rows.append(row / row.norm())
    return torch.stack(rows)


register(
    ReftConfig,
    {"reft": ReftConfig(), "loreft": LoReftConfig(), "noreft": NoReftConfig(), "direft": DiReftConfig()},
)
