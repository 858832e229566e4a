"""Parametrised hypercomplex multiplication: the linear maps of Compacter (Karimi Mahabadi et al. 2021, section 4).

y = x H + b, with H [in, out] the sum over i of the Kronecker products of a rule A_i [n, n] and a block
B_i [in / n, out / n] (equation 4), of which B_i may be of low rank (equation 5). Rules, and blocks too, may be one and
the same for all layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import seeded


@dataclass(frozen=True)
class PHMOptions:
    """What a PHM layer depends on, under the names that configurations of bottleneck adapters give it."""

    dim: int
    factorized_blocks: bool
    shared_blocks: bool
    shared_rule: bool
    factorized_rule: bool
    c_init: str
    init_range: float
    learn: bool
    nonlinearity: str
    rank: int
    bias: bool
    seed: int | None

    def rule(self, name: str) -> dict[str, nn.Parameter]:
        """Parameters of a rule."""
        generator = seeded(self.seed, name)
        shapes: Mapping[str, tuple[int, ...]] = {"phm_rule": (self.dim,) * 3}
        if self.factorized_rule:
            shapes = {"phm_rule_left": (self.dim, self.dim, 1), "phm_rule_right": (self.dim, 1, self.dim)}
        made = {key: nn.Parameter(torch.empty(shape)) for key, shape in shapes.items()}
        for parameter in made.values():
            if self.c_init == "uniform":
                nn.init.uniform_(parameter, -self.init_range, self.init_range, generator=generator)
            else:
                nn.init.normal_(parameter, std=self.init_range, generator=generator)
        return made

    def blocks(self, name: str, inputs: int, outputs: int) -> dict[str, nn.Parameter]:
        """Parameters of blocks for a map of ``inputs`` to ``outputs``.

        Raises:
            ConfigError: if one of these is not divisible by the number of blocks.
        """
        n, generator = self.dim, seeded(self.seed, name)
        if inputs % n or outputs % n:
            raise ConfigError(
                f"{name}: phm_dim is {n}, which does not divide {inputs} and {outputs}; choose another, or another "
                "reduction_factor"
            )
        shapes: Mapping[str, tuple[int, ...]] = {"W": (n, inputs // n, outputs // n)}
        if self.factorized_blocks:
            shapes = {"W_left": (n, inputs // n, self.rank), "W_right": (n, self.rank, outputs // n)}
        made = {key: nn.Parameter(torch.empty(shape)) for key, shape in shapes.items()}
        for parameter in made.values():
            for block in parameter.data:
                if self.nonlinearity == "glorot-uniform":
                    nn.init.xavier_uniform_(block, generator=generator)
                elif self.nonlinearity == "glorot-normal":
                    nn.init.xavier_normal_(block, generator=generator)
                else:
                    nn.init.normal_(block, std=self.init_range, generator=generator)
        return made


class PHMShared(nn.Module):
    """What the layers of an adapter share: the rule, and the blocks of both maps."""

    def __init__(self, options: PHMOptions, width: int, size: int) -> None:
        super().__init__()
        if options.shared_rule:
            _hold(self, options.rule("shared"), options.learn)
        if options.shared_blocks:
            self.down = nn.ParameterDict(options.blocks("shared.down", width, size))
            self.up = nn.ParameterDict(options.blocks("shared.up", size, width))
        self.widths = (width, size)


class PHMLinear(nn.Module):
    """A linear map ``[..., in]`` to ``[..., out]``; ``which`` of the two maps of an adapter, ``down`` or ``up``."""

    def __init__(
        self, options: PHMOptions, which: str, inputs: int, outputs: int, shared: PHMShared | None, name: str
    ) -> None:
        super().__init__()
        self.options, self.which = options, which
        self._shared: tuple[PHMShared, ...] = () if shared is None else (shared,)  # in a tuple, it is no part of this
        if not options.shared_rule:
            _hold(self, options.rule(f"{name}.{which}"), options.learn)
        if not options.shared_blocks:
            _hold(self, options.blocks(f"{name}.{which}", inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if options.bias else None

    @property
    def weight(self) -> Tensor:
        """H, transposed: ``[out, in]``."""
        rule = self._product("phm_rule", self.options.shared_rule)
        blocks = self._product("W", self.options.shared_blocks)
        n, inputs, outputs = blocks.shape
        return torch.einsum("iab,icd->acbd", rule, blocks).reshape(n * inputs, n * outputs).T

    def forward(self, values: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        return nn.functional.linear(values, self.weight, self.bias)

    def _product(self, name: str, shared: bool) -> Tensor:
        """A parameter, or the product of its two factors, here or where it is shared."""
        holder: nn.Module = self
        if shared:
            (common,) = self._shared
            holder = getattr(common, self.which) if name == "W" else common
        whole = getattr(holder, name, None)
        found: Tensor = getattr(holder, f"{name}_left") @ getattr(holder, f"{name}_right") if whole is None else whole
        own = next((tensor for tensor in (*self.parameters(), *self.buffers())), found)
        return found.to(own.device)


def _hold(module: nn.Module, parameters: Mapping[str, nn.Parameter], learn: bool = True) -> None:
    """Keep parameters in a module; those that are not to be learnt as buffers, which no training touches."""
    for name, parameter in parameters.items():
        if learn:
            module.register_parameter(name, parameter)
        else:
            module.register_buffer(name, parameter.data)
