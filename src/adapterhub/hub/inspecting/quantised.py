"""Tensors that are stored as whole numbers with scales (docs/checkpoints.md), by the shapes that they stand for."""

import math
from collections.abc import Mapping

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.tensors import TensorInfo

QUANTISED = ("int8", "int4")
_SCALES = ".scales"
_BLOCKS = {"I8": 128, "U8": 32}
_FLOATS = ("BF16", "F16", "F32")


def restored(tensors: Mapping[str, TensorInfo], where: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that stored ones (by name) stand for.

    Raises:
        UploadRefusedError: if scales and values do not go together.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in tensors.items():
        if name.endswith(_SCALES) and name.removesuffix(_SCALES) in tensors:
            continue
        scales = tensors.get(name + _SCALES)
        shapes[name] = tensor.shape if scales is None else _restored(name, tensor, scales, where)
    return shapes


def _restored(name: str, tensor: TensorInfo, scales: TensorInfo, where: str) -> tuple[int, ...]:
    block = _BLOCKS.get(tensor.dtype)
    if block is None or not tensor.shape:
        raise UploadRefusedError(f"{where}: tensor {name!r} has scales, and is of the type {tensor.dtype}")
    shape = tensor.shape if tensor.dtype == "I8" else (*tensor.shape[:-1], 2 * tensor.shape[-1])
    blocks = math.ceil(math.prod(shape) / block)
    if scales.shape != (blocks,) or scales.dtype not in _FLOATS:
        raise UploadRefusedError(
            f"{where}: tensor {name!r} has scales of {list(scales.shape)} in {scales.dtype}, not {blocks} floats. "
            "Save the adapter again."
        )
    return shape
