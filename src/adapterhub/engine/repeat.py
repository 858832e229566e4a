"""A batch repeated for the channels of a ``Parallel``: all rows for the first, then all rows for the second, ..."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Arguments of layers whose first dimension is that of rows and heads together.
_ROWS_AND_HEADS = ("alibi",)
# Those that every row shares: ``[1, ...]``, as a batch of one row is.
_SHARED = ("relative_pos",)


def repeated(value: Any, rows: int, channels: int) -> Any:
    """``value`` with every tensor of ``rows`` rows repeated, inside tuples, lists and dictionaries too.

    Tables of numbers ``[a, b]`` are left alone: by position, say. Masks and ids of that shape are not.
    """
    if isinstance(value, Tensor):
        a_table = value.dim() < 2 or (value.dim() == 2 and value.is_floating_point())
        return value if a_table or value.shape[0] != rows else _repeat(value, channels)
    if isinstance(value, (tuple, list)):
        items = [repeated(item, rows, channels) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if type(value) is dict:
        return {key: _repeated_argument(key, item, rows, channels) for key, item in value.items()}
    return value


def _repeated_argument(key: str, value: Any, rows: int, channels: int) -> Any:
    if key in _SHARED:
        return value
    if key in _ROWS_AND_HEADS and isinstance(value, Tensor):
        return _repeat(value, channels)
    return repeated(value, rows, channels)


def repeated_inputs(value: Any, rows: int, channels: int) -> Any:
    """The arguments of a model, or one of them, with every tensor of ``rows`` rows repeated, whatever its shape."""
    if isinstance(value, Tensor):
        return _repeat(value, channels) if value.dim() and value.shape[0] == rows else value
    if isinstance(value, (tuple, list)):
        return type(value)(repeated_inputs(item, rows, channels) for item in value)
    if isinstance(value, Mapping):
        return type(value)(**{key: repeated_inputs(item, rows, channels) for key, item in value.items()})
    return value


def _repeat(value: Tensor, channels: int) -> Tensor:
    return value.repeat(channels, *(1,) * (value.dim() - 1))
