"""Linear maps in 8-bit integers on a processor.

Weights are rounded once, with a scale for each output; inputs as they come, with a scale for each token (Dettmers et
al. 2022, arXiv:2208.07339, section 2.1, vector-wise quantisation). Products are summed in 32-bit integers.
"""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub.engine.named import ADDED
from adapterhub.errors import ConfigError

_LARGEST = 127.0


class Int8Forward:
    """In place of the ``forward`` of a linear module, which keeps its weight, its class and its hooks."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """``weight``: ``[out, in]``; ``bias``: ``[out]`` or None."""
        self.rounded, scale = rounded(weight.detach().float())
        self.rounded, self.scale = self.rounded.t(), scale.t()
        self.bias = torch.zeros(len(weight)) if bias is None else bias.detach().float()

    def __call__(self, inputs: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        codes, scale = rounded(inputs.flatten(0, -2))
        products = torch._int_mm(codes, self.rounded)
        outputs = torch.addcmul(self.bias, products * scale, self.scale)
        return outputs.view(*inputs.shape[:-1], -1)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each row ``[rows, width]`` in integers from -127 to 127, and what to multiply them with: ``[rows, 1]``."""
    scale = rows.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    return torch.round(rows / scale).to(torch.int8), scale


def put_int8(base: nn.Module, apart: nn.Module | None) -> None:
    """Have every linear map of a base model compute in integers, except ``apart`` (a head over its vocabulary).

    Raises:
        ConfigError: if it has none.
    """
    found = [
        module
        for path, module in base.named_modules()
        if type(module) in (nn.Linear, Conv1D) and path.partition(".")[0] not in ADDED and module is not apart
    ]
    if not found:
        raise ConfigError(f'{type(base).__name__} has no linear maps to compute in int8: use precision="fp32"')
    for module in found:
        weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
        module.forward = Int8Forward(weight, module.bias)
