"""Tensors by name: to the bytes of a safetensors file and back, and into a module."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from adapterhub.errors import CheckpointError, CorruptCheckpointError, TensorMismatchError

_LISTED = 10  # names of tensors in an error
_NUMBER = re.compile(r"(?:^|(?<=\.))(?:0|[1-9][0-9]{0,8})(?=\.|$)")  # a whole part of a name
_RUN = re.compile(r"\[([0-9]{1,9}):([0-9]{1,9})\]")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_TYPES = (*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def encode(tensors: Mapping[str, Tensor], what: str) -> bytes:
    """The bytes of a safetensors file that holds ``tensors``, each in its own data type.

    Tensors of one shape whose names differ in their first number alone are stacked: ``layers.0.up.weight`` to
    ``layers.11.up.weight`` are kept as ``layers.[0:12].up.weight``. A header with every layer of a large model by name
    would be tens of kilobytes.

    Raises:
        CheckpointError: if tensors share memory, hold no values or values that are not finite, or are of a type or
            name that the file format does not know.
    """
    return _to_bytes(tensors, what, _stack, None)


def encode_plainly(tensors: Mapping[str, Tensor], what: str) -> bytes:
    """The bytes of a safetensors file that holds ``tensors`` one by one, as other libraries read it.

    Raises:
        CheckpointError: as ``encode``.
    """
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return _to_bytes(apart, what, dict, {"format": "pt"})


def _to_bytes(
    tensors: Mapping[str, Tensor],
    what: str,
    arrange: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    metadata: dict[str, str] | None,
) -> bytes:
    check_fit_to_save(tensors, what)
    try:
        return save_safetensors(arrange({name: tensor.detach().cpu() for name, tensor in tensors.items()}), metadata)
    except Exception as error:  # safetensors raises all kinds
        raise CheckpointError(f"{what} cannot be saved as safetensors: {error}") from error


def check_fit_to_save(tensors: Mapping[str, Tensor], what: str) -> None:
    """Pass tensors that come back from a file as they are.

    Raises:
        CheckpointError: for any others, as ``encode``.
    """
    for name, tensor in tensors.items():
        _check_values(name, tensor, what)
    _check_apart(tensors, what)


def decode(data: bytes, what: str) -> dict[str, Tensor]:
    """The tensors that ``encode`` was given.

    Raises:
        CorruptCheckpointError: if this is no safetensors file, or holds values that are not finite.
    """
    try:
        stacked = load_safetensors(data)
    except Exception as error:  # safetensors raises all kinds, and whoever wrote the file chose its content
        raise CorruptCheckpointError(f"{what} is not a whole safetensors file: {error}. Copy it again.") from error
    tensors = unstack(stacked, what)
    check_tensors(tensors, what)
    return tensors


def unstack(stacked: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors of a file one by one, where ``encode`` stacked them: views.

    Raises:
        CorruptCheckpointError: if a name and a shape do not go together, or two are of one name.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in stacked.items():
        for own, one in _unstack(name, tensor, what):
            if own in tensors:
                raise CorruptCheckpointError(f"{what} holds tensor {own} twice")
            tensors[own] = one
    return tensors


def check_tensors(tensors: Mapping[str, Tensor], what: str) -> None:
    """Pass tensors of a file that are of a known type, with values that are finite.

    Raises:
        CorruptCheckpointError: for any other.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise CorruptCheckpointError(f"{what}: tensor {name} is of the type {tensor.dtype}, which is not read")
        check_finite(name, tensor, what)


def check_finite(name: str, tensor: Tensor, what: str) -> None:
    """Pass a tensor of a file whose values are finite.

    Raises:
        CorruptCheckpointError: for any other.
    """
    if not _is_finite(tensor):
        raise CorruptCheckpointError(f"{what}: tensor {name} holds values that are not finite")


def match_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Pass ``found`` tensors that are the ``expected`` ones by name and shape.

    Raises:
        TensorMismatchError: listing tensors that are missing, left over, or of another shape.
    """
    listings = {
        "missing from the checkpoint": [name for name in expected if name not in found],
        "left over in the checkpoint": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} ({_form(found[name])} in the checkpoint, {_form(expected[name])} here)"
            for name in expected
            if name in found and _form(found[name]) != _form(expected[name])
        ],
    }
    problems = [
        f"{len(names)} {title}: {', '.join(names[:_LISTED])}"
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for title, names in listings.items()
        if names
    ]
    if problems:
        raise TensorMismatchError(f"{what} does not fit this model. Tensors {'; '.join(problems)}.")


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy ``tensors`` into the parameters and buffers of ``module``; nothing is changed unless all of them fit.

    Values take the data type and device of the module's own.

    Raises:
        TensorMismatchError: listing tensors that are missing, left over, or of another shape.
    """
    own = module.state_dict(keep_vars=True)
    match_tensors(own, tensors, what)
    absent = next((name for name, tensor in own.items() if tensor.is_meta), None)
    if absent is not None:
        raise TensorMismatchError(f"{what} cannot be loaded: tensor {absent} of this model has no memory (meta device)")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _form(tensor: Tensor) -> str:
    """Shape, and the kind of number where it is not the usual one."""
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{list(tensor.shape)}{kind}"


def _check_values(name: str, tensor: Tensor, what: str) -> None:
    if _RUN.search(name) or name == "__metadata__":
        raise CheckpointError(f"{what}: a tensor cannot be named {name!r}, which means something else in the file")
    if tensor.is_meta or tensor.layout != torch.strided or tensor.dtype not in _TYPES:
        raise CheckpointError(
            f"{what}: tensor {name} has no values that can be saved ({tensor.dtype}, {tensor.layout}, {tensor.device})"
        )
    if not _is_finite(tensor):
        raise CheckpointError(
            f"{what}: tensor {name} holds values that are not finite, so it is not saved. If it was trained, the "
            "training diverged: lower the learning rate."
        )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are numbers: the least and the greatest are not finite, or no number, if any is not."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return bool(torch.stack(torch.aminmax(tensor.detach())).isfinite().all())


def _check_apart(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that lie over one another: they would come back as separate ones."""
    spans = sorted(
        (str(tensor.device), tensor.data_ptr(), _extent(tensor), name)
        for name, tensor in tensors.items()
        if tensor.numel()
    )
    last, end, owner = "", 0, ""
    for device, start, extent, name in spans:
        if device == last and start < end:
            raise CheckpointError(f"{what}: tensors {owner} and {name} share memory; save one of them")
        last, end, owner = device, start + extent, name


def _extent(tensor: Tensor) -> int:
    """Bytes from the first element to the end of the last one."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.element_size()


def _stack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stacked: dict[str, Tensor] = {}
    groups: defaultdict[tuple[Any, ...], dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        number = _NUMBER.search(name)
        if number is None:
            stacked[name] = tensor.contiguous()
        else:
            key = name[: number.start()], name[number.end() :], tensor.shape, tensor.dtype
            groups[key][int(number[0])] = tensor
    for (before, after, *_), members in groups.items():
        for _, run in groupby(enumerate(sorted(members)), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in run]
            if len(numbers) == 1:
                stacked[f"{before}{numbers[0]}{after}"] = members[numbers[0]].contiguous()
            else:
                name = f"{before}[{numbers[0]}:{numbers[-1] + 1}]{after}"
                stacked[name] = torch.stack([members[number] for number in numbers])
    return stacked


def _unstack(name: str, tensor: Tensor, what: str) -> Iterator[tuple[str, Tensor]]:
    run = _RUN.search(name)
    if run is None:
        yield name, tensor
        return
    first, end = int(run[1]), int(run[2])
    if tensor.dim() == 0 or not 0 < end - first == len(tensor):
        raise CorruptCheckpointError(f"{what}: tensor {name} is of shape {list(tensor.shape)}, which its name belies")
    for number, one in zip(range(first, end), tensor, strict=True):
        yield f"{name[: run.start()]}{number}{name[run.end() :]}", one
