"""What a model holds for each token of its vocabulary, and how all of it is exchanged for another vocabulary's."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

TABLE = "weight"  # the name of the table of input embeddings among the tensors of a vocabulary
_SIZES = ("num_embeddings", "out_features", "vocab_size")


class Vocabulary(nn.Module):
    """The tensors of a vocabulary that is not in use: the table ``"weight"`` ``[size, width]``, others by their path.

    ``padding_idx`` is the token of which the table has no gradient.
    """

    def __init__(self, tensors: Mapping[str, Tensor], padding_idx: int | None = None) -> None:
        super().__init__()
        self.padding_idx = padding_idx
        for path, tensor in tensors.items():
            name = path.replace(".", "/")  # no name of a tensor may hold a point
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by their path in the model."""
        held = {**self._parameters, **self._buffers}
        return {name.replace("/", "."): tensor for name, tensor in held.items() if tensor is not None}

    def forget(self, prefix: str) -> None:
        """Drop the tensors below a path, which is gone from the model."""
        for store in (self._parameters, self._buffers):
            for name in [name for name in store if name.startswith(prefix.replace(".", "/"))]:
                del store[name]


def has_entries(tensor: Tensor, size: int) -> bool:
    """Whether a tensor is of shape ``[size]``, ``[size, *]`` or ``[1, size]``: one entry for each token."""
    return tensor.dim() > 0 and size in (tensor.shape[0], *(tensor.shape[1:] if tensor.shape[0] == 1 else ()))


def with_entries(tensor: Tensor, old_size: int, size: int) -> list[int]:
    """The shape of a tensor that has an entry for each of ``old_size`` tokens, for ``size`` tokens."""
    dim = entries_dim(tensor, old_size)
    return [size if index == dim else length for index, length in enumerate(tensor.shape)]


def entries_dim(tensor: Tensor, size: int) -> int:
    """The dimension along which a tensor has an entry for each token."""
    return 0 if tensor.shape[0] == size else 1


def exchange(model: nn.Module, swaps: Mapping[int, Tensor], old_size: int, size: int) -> None:
    """Put other tensors in the places of some (by ``id``), wherever modules hold them, which note the new size."""
    for module in model.modules():
        if isinstance(module, Vocabulary):
            continue
        for store in (module._parameters, module._buffers):
            for name, held in store.items():
                if held is not None and id(held) in swaps:
                    made: Any = swaps[id(held)]
                    store[name] = made
                    note_size(module, old_size, size)


def note_size(module: object, old_size: int, size: int) -> None:
    """Have what a module, or a configuration, says of the size of its vocabulary be ``size``."""
    for name in _SIZES:
        if getattr(module, name, None) == old_size:
            setattr(module, name, size)
