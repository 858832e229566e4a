"""Dropout, and attention with or without it, that do not hold up training on a CPU.

PyTorch draws a dropout mask on a CPU with a serial generator, one number an element: a fifth of the time of a training
step of a small transformer. Four elements share one draw here, which leaves the share of dropped elements exact to
1/65536 and independent between elements; the values that are kept are scaled as ever.
"""

import math
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import TrainerState, TrainingArguments

_LEVELS = 1 << 16
_SHORT = (
    128  # keys, up to which PyTorch's attention for CPUs in bfloat16 is slower with its backward pass: 2 to 5 times
)
_dropout, _attention = F.dropout, F.scaled_dot_product_attention
_lock, _users = threading.Lock(), 0


@contextmanager
def fast_dropout() -> Iterator[None]:
    """Within this context, dropout of tensors on a CPU draws its masks the fast way.

    It takes the place of ``torch.nn.functional.dropout`` and of the dropout inside ``scaled_dot_product_attention``,
    and so reaches every model without touching it. Masks are as random as before and follow ``torch.manual_seed``, but
    are not the ones that PyTorch itself would draw. Other devices keep their own dropout. Put the backward pass inside
    too: it may compute layers again, which then have to drop the same elements.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    """Count the contexts that are open, in all threads; the functions are back when the last one is left."""
    global _users
    with _lock:
        _users += change
        F.dropout = dropout if _users else _dropout
        F.scaled_dot_product_attention = scaled_dot_product_attention if _users else _attention


class FastDropoutMixin:
    """A ``Trainer`` whose training steps run in ``fast_dropout`` where they run on a CPU and are not compiled."""

    args: TrainingArguments

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do one step; see ``transformers.Trainer``."""
        wanted = self.args.device.type == "cpu" and not self.args.torch_compile
        with fast_dropout() if wanted else nullcontext():
            return super().training_step(*args, **kwargs)  # type: ignore[misc]


class SeededStepsMixin:
    """A ``Trainer`` of which each step draws random numbers that follow from its seed and the number of the step."""

    args: TrainingArguments
    state: TrainerState

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do one step; see ``transformers.Trainer``."""
        torch.manual_seed(step_seed(self.args.seed, self.state.global_step))
        step: Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        return step


def step_seed(seed: int, step: int) -> int:
    """The seed of a step of a training, of 32 bits."""
    return zlib.crc32(f"{seed} {step}".encode())


class _Masked(torch.autograd.Function):
    """``input * mask * scale``, with a mask of a byte an element kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(input, mask, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _Masked.apply(gradients[0], mask, ctx.scale), None, None


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``torch.nn.functional.dropout``, with masks drawn the fast way.

    Raises:
        ValueError: if ``p`` is no probability.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    threshold = round(p * _LEVELS)
    if input.device.type != "cpu" or not training or threshold in (0, _LEVELS):
        return _dropout(input, p, training, inplace)
    result: Tensor = _Masked.apply(input, _mask(input, threshold), _LEVELS / (_LEVELS - threshold))
    return input.copy_(result) if inplace else result


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``, with masks of its dropout drawn the fast way.

    Without dropout PyTorch's own is used, but for short rows in bfloat16 that are trained on, for which it is slow.
    Probabilities are computed in float32.

    Args:
        query: ``[..., heads, queries, width]``; ``key`` and ``value`` have ``keys`` in place of ``queries``.
        attn_mask: broadcast to ``[..., heads, queries, keys]``: true where a key takes part, or added to the scores.
    """
    if query.device.type != "cpu" or (dropout_p == 0.0 and not _is_slow(query, key, value)):
        return _attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is None:
        weights = scores.softmax(-1, dtype=torch.float32)
    else:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        weights = torch._safe_softmax(scores, -1, dtype=torch.float32)  # 0 for a query that may see no key
    return dropout(weights.to(value.dtype), dropout_p) @ value


def _is_slow(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether PyTorch's own attention without dropout is slower than a few products of matrices."""
    trained = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    return trained and query.dtype == torch.bfloat16 and key.shape[-2] <= _SHORT


def _mask(like: Tensor, threshold: int) -> Tensor:
    """True for what is kept: all but ``threshold`` of 65536 elements, on average."""
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    halves = words.view(torch.int16)[: like.numel()]
    return (halves >= threshold - _LEVELS // 2).view(like.shape)
