"""Tensors of many modules of one shape, stacked: each module has a slot of its own."""

import math
import mmap
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from adapterhub.errors import CompositionError, ConfigError, TensorMismatchError


class Slotted:
    """Room for the tensors of ``capacity`` modules like one, in slots 0 to ``capacity`` - 1.

    Values are kept in ``dtype``, by default that of the module's own, where the module has its own. Room in host memory
    that nothing was put into takes none, where the system gives memory when it is written to, as Linux does.
    """

    what = "adapter"

    def __init__(self, name: str, like: nn.Module, capacity: int, dtype: torch.dtype | None = None) -> None:
        """Room for modules like ``like``, whose values do not matter.

        Raises:
            ConfigError: if there is to be no slot.
        """
        _check_capacity(name, capacity, 1)
        self.name = name
        self._stacked = {
            path: _room((capacity, *one.shape), _type(one, dtype), one.device) for path, one in tensors_of(like)
        }
        self.filled: set[int] = set()

    @property
    def device(self) -> torch.device:
        """Where the first of its tensors is."""
        return next(iter(self._stacked.values())).device

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return next(iter(self._stacked.values())).shape[0]

    @property
    def slot_bytes(self) -> int:
        """The bytes of one slot."""
        return sum(one[0].nbytes for one in self._stacked.values())

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The tensors of a module by name, and their shapes."""
        return {path: one.shape[1:] for path, one in self._stacked.items()}

    def stacked(self, path: str) -> Tensor:
        """The tensors of that name of all slots, ``[slots, ...]``."""
        return self._stacked[path]

    def put(self, slot: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a module's tensors into a slot, in the place of what was there.

        Raises:
            CompositionError: for a slot that is not there.
            TensorMismatchError: if names or shapes are not those of ``shapes``; the slot is as it was.
        """
        self._check_slot(slot)
        unlike = [
            f"{path} is {_shape(tensors.get(path))}, wanted {tuple(one.shape[1:])}"
            for path, one in self._stacked.items()
            if path not in tensors or tensors[path].shape != one.shape[1:]
        ]
        unlike += [f"{path} is not wanted" for path in tensors if path not in self._stacked]
        if unlike:
            raise TensorMismatchError(f"slot {slot} of bank {self.name!r}: {'; '.join(unlike)}")
        with torch.no_grad():
            for path, stacked in self._stacked.items():
                stacked[slot].copy_(tensors[path])
        self.filled.add(slot)

    def tensors(self, slot: int) -> dict[str, Tensor]:
        """The tensors in a slot by name: views, which change with it.

        Raises:
            CompositionError: if there is nothing in it.
        """
        self._check_filled((slot,))
        return {path: stacked[slot] for path, stacked in self._stacked.items()}

    def clear(self, slot: int) -> None:
        """Take what is in a slot out of it.

        Raises:
            CompositionError: if there is nothing.
        """
        self._check_filled((slot,))
        self.filled.remove(slot)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` modules in all; what is in slots stays.

        Raises:
            ConfigError: for less than there is.
        """
        _check_capacity(self.name, capacity, self.capacity)
        self._resize(capacity)

    def shrink(self, capacity: int) -> None:
        """Give back the room of all slots but the first ``capacity``.

        Raises:
            ConfigError: if there is something in one of the others.
        """
        _check_capacity(self.name, capacity, max(self.filled, default=0) + 1)
        self._resize(capacity)

    def _resize(self, capacity: int) -> None:
        kept = min(capacity, self.capacity)
        for path, stacked in self._stacked.items():
            made = _room((capacity, *stacked.shape[1:]), stacked.dtype, stacked.device)
            made[:kept] = stacked[:kept]
            self._stacked[path] = made

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.capacity:
            raise CompositionError(f"bank {self.name!r} has the slots 0 to {self.capacity - 1}, not {slot}")

    def _check_filled(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if slot not in self.filled:
                self._check_slot(slot)
                raise CompositionError(
                    f"there is no {self.what} in slot {slot} of bank {self.name!r}: put one there first"
                )


def tensors_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by their paths."""
    return [*module.named_parameters(), *module.named_buffers()]


def _room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros: what is read of a slot that nothing is in must not be no number, though the result is not used."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or not size or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages that are zero, and there once they are written to; and that the system has back as soon as they are free.
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


def _check_capacity(name: str, capacity: object, least: int) -> None:
    if type(capacity) is not int or capacity < least:
        raise ConfigError(f"bank {name!r}: capacity must be a whole number of at least {least}, and is {capacity!r}")


def _type(tensor: Tensor, wanted: torch.dtype | None) -> torch.dtype:
    return wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else str(tuple(tensor.shape))
