"""Two small projections of many adapters in one pass over the tokens of a batch, by a Triton kernel on a GPU.

What batched matrix products do in steps (take the parameters of each row out of the stack, down, non-linearity, up,
scaling, residual) is one kernel here, after the idea of Chen et al. 2023 (Punica): each block of tokens reads the
parameters of its adapter where they are, and what lies between the projections never leaves the chip.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

# The non-linearities that the kernel has, by their names in configurations.
ACTIVATIONS = {
    "relu": "relu",
    "relu2": "relu2",
    "relu6": "relu6",
    "leakyrelu": "leaky_relu",
    "leaky_relu": "leaky_relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "linear",
}
LARGEST = 512  # units between the projections: all of them are on the chip at once
_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs(tensors: Sequence[Tensor], others: Iterable[Tensor] = ()) -> bool:
    """Whether the kernel can act on these: on a GPU, with Triton, where no gradient is wanted and nothing is traced."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    device = tensors[0].device
    if not (device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"):  # which runs kernels on the CPU
        return False
    every = [*tensors, *others]
    if not all(type(one) in (Tensor, nn.Parameter) and one.device == device and one.dtype in _TYPES for one in every):
        return False
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in every)
    return not wanted and _kernel() is not None


def gathered(
    inputs: Tensor,
    residual: Tensor | None,
    which: Tensor | None,
    down: tuple[Tensor, Tensor | None],
    up: tuple[Tensor, Tensor | None],
    activation: str = "linear",
    scaling: Tensor | float = 1.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """residual + scaling * (up f(down x)), where each of ``shares`` equal parts of a batch has an adapter of its own.

    Args:
        inputs: x, ``[shares, ..., width]``.
        residual: ``[shares, ..., out]``, or None for none.
        which: the number of each share's adapter ``[shares]``; None: that of the share. What an adapter gives that is
            not there is NaN.
        down: weight ``[adapters, size, width]``, with ``size`` at most ``LARGEST``, and bias ``[adapters, size]``; both
            projections have one, or neither.
        up: weight ``[adapters, out, size]`` and bias ``[adapters, out]``.
        activation: f, a value of ``ACTIVATIONS``.
        scaling: a number, one of each adapter ``[adapters, 1]``, or one of each of its channels ``[adapters, out]``.
        dtype: the data type of the result; None: that of the products, which is that of the weights, or of autocast.

    Returns:
        ``[shares, ..., out]``; sums are made in float32.
    """
    (adapters, size, width), out = down[0].shape, up[0].shape[1]
    computed = _computed(inputs, down[0])
    shares, tokens = inputs.shape[0], inputs.shape[1:-1].numel()
    result = inputs.new_empty((*inputs.shape[:-1], out), dtype=dtype or computed)
    if not result.numel():
        return result
    down_bias, up_bias = down[1], up[1]
    block_size, block_tokens, block_width = _blocks(size, tokens, down[0].element_size())
    made = inputs.contiguous()
    with torch.cuda.device_of(made):
        _kernel().low_rank[shares, -(-tokens // block_tokens)](
            made,
            made if residual is None else residual.contiguous(),
            result,
            made if which is None else which.to(made.device),
            down[0].contiguous(),
            made if down_bias is None else down_bias.contiguous(),
            up[0].contiguous(),
            made if up_bias is None else up_bias.contiguous(),
            scaling.contiguous() if isinstance(scaling, Tensor) else float(scaling),
            adapters,
            tokens,
            width,
            out,
            size=size,
            activation=activation,
            gather=which is not None,
            has_residual=residual is not None,
            has_biases=down_bias is not None,
            scaled_by=_scaled_by(scaling),
            dtype=_kernel().TYPES[computed],
            precision="ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            block_tokens=block_tokens,
            block_size=block_size,
            block_width=block_width,
            num_stages=2,
        )
    return result


@cache
def _kernel() -> Any:
    """The module of the kernel, None without Triton."""
    try:
        from adapterhub.methods.kernels import low_rank
    except ImportError:
        return None
    return low_rank


def _computed(inputs: Tensor, weight: Tensor) -> torch.dtype:
    """The data type of the factors of products."""
    kind = inputs.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _scaled_by(scaling: Tensor | float) -> str:
    if not isinstance(scaling, Tensor):
        return "number"
    return "adapter" if scaling.shape[-1] == 1 else "channel"


def _blocks(size: int, tokens: int, item: int) -> tuple[int, int, int]:
    """Units, tokens and channels that a block handles at once: 16 or more each, and at most 66 KB on the chip."""
    units = max(16, _power_of_two(size))
    return units, max(16, min(64, _power_of_two(tokens), 8192 // units)), max(16, min(64, 16384 // (units * item)))


def _power_of_two(number: int) -> int:
    """The smallest that is not below ``number``."""
    return 1 << (number - 1).bit_length()
