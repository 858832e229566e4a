"""Tensors that are stored as whole numbers with scales (docs/checkpoints.md), by the shapes that they stand for."""

import math
from collections.abc import Mapping

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.tensors import TensorInfo
from adapterhub.quantised import BLOCK, SCALES, Quantised

_KINDS: dict[str, Quantised] = {"I8": "int8", "U8": "int4"}
_FLOATS = ("BF16", "F16", "F32")


def restored(tensors: Mapping[str, TensorInfo], where: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that stored ones (by name) stand for.

    Raises:
        UploadRefusedError: if scales and values do not go together.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) in tensors:
            continue
        scales = tensors.get(name + SCALES)
        shapes[name] = tensor.shape if scales is None else _restored(name, tensor, scales, where)
    return shapes


def _restored(name: str, tensor: TensorInfo, scales: TensorInfo, where: str) -> tuple[int, ...]:
    kind = _KINDS.get(tensor.dtype)
    if kind is None or (kind == "int4" and not tensor.shape):
        raise UploadRefusedError(
            f"{where}: tensor {name!r} has scales, and is of the type {tensor.dtype} and the shape {list(tensor.shape)}"
        )
    shape = tensor.shape if kind == "int8" else (*tensor.shape[:-1], 2 * tensor.shape[-1])
    blocks = math.ceil(math.prod(shape) / BLOCK[kind])
    if scales.shape != (blocks,) or scales.dtype not in _FLOATS:
        raise UploadRefusedError(
            f"{where}: tensor {name!r} has scales of {list(scales.shape)} in {scales.dtype}, not {blocks} floats. "
            "Save the adapter again."
        )
    return shape
