"""How tensors are named and divided that are stored as whole numbers: what checkpoints write and a hub checks."""

from typing import Literal

Quantised = Literal["int8", "int4"]
SCALES = ".scales"  # after the name of a tensor, that of its scales
BLOCK: dict[Quantised, int] = {"int8": 128, "int4": 32}  # values that share a scale


def is_quantised(dtype: object) -> bool:
    """Whether values that are stored so are whole numbers with scales."""
    return dtype in BLOCK
