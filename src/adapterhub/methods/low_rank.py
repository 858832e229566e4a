"""What LoRA and its relatives have in common: a weight changed by the product of two small matrices."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import Weight


class LowRankChange(nn.Module):
    """A weight changed by s B A, whatever A and B are made of; ``magnitude`` makes it DoRA."""

    scaling: float = 1.0
    dropout: float = 0.0
    bias: nn.Parameter | None
    gate: nn.Linear | None
    magnitude: nn.Parameter | None

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """A ``[r, in]`` and B ``[out, r]``."""

    @property
    def dtype(self) -> torch.dtype:
        """That of its parameters."""
        return next(self.parameters()).dtype

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
                read = inputs.to(self.dtype)
            if self.training and self.dropout:
                read = F.dropout(read, self.dropout)
        down, up = self.factors()
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
            matrix = matrix * _column(self.magnitude / lengths(matrix), matrix)
        bias = weight.bias
        if self.bias is not None:
            bias = self.bias if bias is None else bias.float() + self.bias
        return matrix, bias

    def _rescaled(self, output: Tensor, update: Tensor, weight: Weight) -> Tensor:
        assert self.magnitude is not None
        norms = lengths(self._matrix(weight).detach())  # held constant in the backward pass (section 4.3)
        scale = weight.spread(self.magnitude / norms)
        bias = 0.0 if weight.bias is None else weight.spread(weight.bias)
        bare = output - bias
        rescaled: Tensor = scale * (bare + update) - bare
        return rescaled if self.bias is None else rescaled + weight.spread(self.bias)

    def _matrix(self, weight: Weight) -> Tensor:
        """W + s B A, in full precision."""
        down, up = self.factors()
        base = weight.matrix.to(down.dtype)
        return base + self.scaling * (up @ down.flatten(1)).view_as(base)


def lengths(matrix: Tensor) -> Tensor:
    """Euclidean norm of the weights of each output, ``[out]``."""
    return torch.linalg.vector_norm(matrix.flatten(1), dim=1)


def _column(values: Tensor, matrix: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (matrix.dim() - 1))
