"""The kernel of ``adapterhub.methods.gathered``, which launches it; importing this needs Triton."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import torch
import triton
import triton.language as tl

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _activated(x, name: tl.constexpr):
    """A non-linearity of ``adapterhub.methods.activations``, in float32."""
    if name == "relu":
        y = tl.maximum(x, 0.0)
    elif name == "relu2":
        y = tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    elif name == "relu6":
        y = tl.minimum(tl.maximum(x, 0.0), 6.0)
    elif name == "leaky_relu":
        y = tl.where(x > 0, x, 0.01 * x)
    elif name == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif name == "gelu_tanh":  # 0.5 (1 + tanh(u)) is sigmoid(2 u)
        y = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif name == "quick_gelu":
        y = x * tl.sigmoid(1.702 * x)
    elif name == "silu":
        y = x * tl.sigmoid(x)
    elif name == "tanh":
        y = 2.0 * tl.sigmoid(2.0 * x) - 1.0
    elif name == "sigmoid":
        y = tl.sigmoid(x)
    else:
        tl.static_assert(name == "linear")
        y = x
    return y


@triton.jit
def low_rank(
    inputs,  # [shares, tokens, width]
    residual,  # [shares, tokens, out]
    result,  # [shares, tokens, out]
    which,  # [shares], the adapter of each share
    down,  # [adapters, size, width]
    down_bias,  # [adapters, size]
    up,  # [adapters, out, size]
    up_bias,  # [adapters, out]
    scaling,  # a number; [adapters, 1]; [adapters, out]
    adapters,
    tokens,
    width,
    out,
    size: tl.constexpr,
    activation: tl.constexpr,
    gather: tl.constexpr,  # False: share i has adapter i
    has_residual: tl.constexpr,
    has_biases: tl.constexpr,
    scaled_by: tl.constexpr,  # "number", "adapter" or "channel"
    dtype: tl.constexpr,  # that of the factors of both products
    precision: tl.constexpr,  # of products of float32
    block_tokens: tl.constexpr,
    block_size: tl.constexpr,
    block_width: tl.constexpr,
):
    """residual + scaling * (up f(down x + down_bias) + up_bias) for a block of tokens of one share."""
    share = tl.program_id(0).to(tl.int64)
    adapter = tl.load(which + share).to(tl.int64) if gather else share
    known = (adapter >= 0) & (adapter < adapters)  # what an adapter gives that is not there is no number
    row = tl.program_id(1) * block_tokens + tl.arange(0, block_tokens)
    row_ok = row < tokens
    unit = tl.arange(0, block_size)
    unit_ok = (unit < size) & known
    inputs += share * tokens * width
    down += adapter * size * width
    up += adapter * out * size

    hidden = tl.zeros((block_tokens, block_size), dtype=tl.float32)
    for start in range(0, width, block_width):
        column = start + tl.arange(0, block_width)
        column_ok = column < width
        x = tl.load(inputs + row[:, None] * width + column[None, :], row_ok[:, None] & column_ok[None, :], 0.0)
        w = tl.load(down + unit[None, :] * width + column[:, None], unit_ok[None, :] & column_ok[:, None], 0.0)
        hidden = tl.dot(x.to(dtype), w.to(dtype), hidden, input_precision=precision)
    if has_biases:
        hidden += tl.load(down_bias + adapter * size + unit, unit_ok, 0.0).to(tl.float32)[None, :]
    hidden = _activated(hidden, activation).to(dtype)  # columns beyond ``size`` meet zeros of ``up``

    for start in range(0, out, block_width):
        column = start + tl.arange(0, block_width)
        column_ok = column < out
        w = tl.load(up + column[None, :] * size + unit[:, None], unit_ok[:, None] & column_ok[None, :], 0.0)
        y = tl.dot(hidden, w.to(dtype), input_precision=precision)
        if has_biases:
            y += tl.load(up_bias + adapter * out + column, column_ok & known, 0.0).to(tl.float32)[None, :]
        if scaled_by == "channel":
            y *= tl.load(scaling + adapter * out + column, column_ok & known, 0.0).to(tl.float32)[None, :]
        elif scaled_by == "adapter":
            y *= tl.load(scaling + adapter, known, 0.0).to(tl.float32)
        else:
            y *= scaling
        at = (share * tokens + row[:, None]) * out + column[None, :]
        ok = row_ok[:, None] & column_ok[None, :]
        if has_residual:
            y += tl.load(residual + at, ok, 0.0).to(tl.float32)
        tl.store(result + at, tl.where(known, y, float("nan")).to(result.dtype.element_ty), ok)
