"""Tensors stored in fewer bits: whole numbers with one scale for each block of values, or a shorter float.

A value w of a block is kept as q = round(w / s), with s = max |w| / (2^(bits - 1) - 1) over the block: symmetric
absmax quantisation by blocks (Dettmers et al. 2022, arXiv:2110.02861, section 2.1). Blocks are taken of the values of a
tensor one after another, 128 of them for eight bits and 32 for four.
"""

from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from adapterhub.errors import ConfigError, CorruptCheckpointError
from adapterhub.quantised import BLOCK, SCALES, Quantised

Storage = Literal["float32", "bfloat16", "int8", "int4"]
_FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LARGEST = {"int8": 127, "int4": 7}
_KINDS: dict[torch.dtype, Quantised] = {torch.int8: "int8", torch.uint8: "int4"}


def storage(dtype: str) -> Storage:
    """The way to store values of that name.

    Raises:
        ConfigError: if there is none.
    """
    if dtype not in get_args(Storage):
        raise ConfigError(f"dtype is one of {', '.join(get_args(Storage))}, not {dtype!r}")
    return cast(Storage, dtype)


def packed(tensors: Mapping[str, Tensor], dtype: Storage) -> dict[str, Tensor]:
    """``tensors`` as they are stored with ``dtype``; those that hold no floats stay as they are.

    With ``"int4"`` two neighbours of the last dimension share a byte; where they cannot (an odd size, a vector), a
    tensor is stored in eight bits.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            stored[name] = tensor
        elif dtype in _FLOATS:
            stored[name] = tensor.to(_FLOATS[dtype])
        else:
            paired = dtype == "int4" and tensor.dim() > 1 and tensor.shape[-1] % 2 == 0
            values, scales = _quantised(tensor.detach().float(), "int4" if paired else "int8")
            stored[name] = _pairs(values) if paired else values
            stored[name + SCALES] = scales
    return stored


def unpacked(stored: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors that ``packed`` was given, as float32, but for what was lost by rounding.

    Raises:
        CorruptCheckpointError: if scales and values do not go together.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) in stored:
            continue
        scales = stored.get(name + SCALES)
        tensors[name] = tensor if scales is None else _restored(tensor, scales, f"{what}: tensor {name}")
    return tensors


def _quantised(values: Tensor, kind: Quantised) -> tuple[Tensor, Tensor]:
    """Whole numbers of the shape of ``values``, and a scale ``[blocks]`` for each block of them."""
    blocks = _blocks(values, BLOCK[kind])
    exact = blocks.abs().amax(dim=1) / _LARGEST[kind]
    scales = exact.to(torch.bfloat16)
    above = torch.nextafter(scales, torch.full_like(scales, torch.inf))
    scales = torch.where(scales.float() < exact, above, scales)  # rounded up: no value is cut off
    divisors = scales.float()[:, None]
    whole = torch.where(divisors > 0, blocks / divisors, 0.0).round().to(torch.int8)
    return whole.flatten()[: values.numel()].view_as(values), scales


def _restored(stored: Tensor, scales: Tensor, where: str) -> Tensor:
    kind = _KINDS.get(stored.dtype)
    if kind is None:
        raise CorruptCheckpointError(f"{where} has scales, and is of the type {stored.dtype}, which needs none")
    if kind == "int4" and not stored.dim():
        raise CorruptCheckpointError(f"{where} has no dimension, and two values in each byte")
    values = (stored if kind == "int8" else _apart(stored)).float()
    blocks = _blocks(values, BLOCK[kind])
    if scales.shape != blocks.shape[:1] or not scales.is_floating_point():
        raise CorruptCheckpointError(f"{where} has {list(scales.shape)} scales, and {len(blocks)} blocks of values")
    return (blocks * scales.float()[:, None]).flatten()[: values.numel()].view_as(values)


def _blocks(values: Tensor, size: int) -> Tensor:
    """``[blocks, size]``, the last one filled up with zeros."""
    flat = values.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


def _pairs(values: Tensor) -> Tensor:
    """Two neighbours, from -8 to 7, in one byte: the first one in the lower four bits."""
    above = (values + 8).to(torch.uint8)
    return above[..., ::2] | (above[..., 1::2] << 4)


def _apart(pairs: Tensor) -> Tensor:
    return torch.stack([pairs & 15, pairs >> 4], dim=-1).flatten(-2).to(torch.int8) - 8
