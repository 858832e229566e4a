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
        """A ``[r, in]`` and B ``[out, r]``; of experts ``[experts, r, in]`` and ``[experts, out, r]``."""

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
            rows = weight.by_output(matrix)
            matrix = (rows * (self.magnitude / lengths(rows))[..., None]).view_as(matrix)
        bias = weight.bias
        if self.bias is not None:
            bias = self.bias if bias is None else bias.float() + self.bias
        return matrix, bias

    def _rescaled(self, output: Tensor, update: Tensor, weight: Weight) -> Tensor:
        assert self.magnitude is not None
        norms = lengths(
            weight.by_output(self._matrix(weight).detach())
        )  # held constant in the backward pass (section 4.3)
        scale = weight.spread(self.magnitude / norms)
        bias = 0.0 if weight.bias is None else weight.spread(weight.bias)
        bare = output - bias
        rescaled: Tensor = scale * (bare + update) - bare
        return rescaled if self.bias is None else rescaled + weight.spread(self.bias)

    def _matrix(self, weight: Weight) -> Tensor:
        """W + s B A, in full precision."""
        down, up = self.factors()
        base = weight.matrix.to(down.dtype)
        return base + self.scaling * (up @ weight.by_output(down)).view_as(base)


def lengths(rows: Tensor) -> Tensor:
    """Euclidean norm of the weights of each output: of ``[..., out, in]``, ``[..., out]``."""
    return torch.linalg.vector_norm(rows, dim=-1)


def nearest_factors(rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A ``[..., rank, in]`` and B ``[..., out, rank]`` whose product is nearest to ``rows`` (Eckart and Young 1936)."""
    left, values, right = torch.linalg.svd(rows.float(), full_matrices=False)
    root = values[..., :rank].sqrt()
    return root[..., None] * right[..., :rank, :], left[..., :rank] * root[..., None, :]
