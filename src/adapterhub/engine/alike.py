"""Which programs are alike, so that they differ in the values of parameters alone, and one that runs as all of them."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor, nn

from adapterhub.engine.program import Program, Step
from adapterhub.engine.stacked import MembersStep
from adapterhub.methods import AdapterConfig

_NAMES = ("adapter", "fusion")  # fields that say whose a program is
_UNLIKE = ("leave_out", "init_weights", "init_weights_seed")  # options that a part is made by, and does not act by


def alike(one: Any, other: Any) -> bool:
    """Whether two programs, or parts of them, can run as one."""
    if isinstance(one, Program):
        if type(one) is not type(other) or not one.row_by_row:
            return False
        names = [field.name for field in fields(one) if field.name not in _NAMES]  # type: ignore[arg-type]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, Tensor | nn.Parameter):
        return isinstance(other, Tensor) and _shape(one) == _shape(other)
    if isinstance(one, nn.Module):
        return one is other or (isinstance(other, nn.Module) and _alike_modules(one, other))
    if isinstance(one, AdapterConfig) and one is not other:
        return isinstance(other, AdapterConfig) and _acting(one) == _acting(other)
    return bool(one == other)


def merged(programs: Sequence[Program]) -> Program:
    """One that runs as several that are alike do, each on an equal share of the rows: as ``call.members`` says."""
    first = programs[0]
    if isinstance(first, Step):
        steps = [step for step in programs if isinstance(step, Step)]
        same = all(step.part is first.part and step.fixed == first.fixed for step in steps)
        return first if same else MembersStep.of(steps)
    changed = {
        field.name: _merged_field([getattr(program, field.name) for program in programs])
        for field in fields(first)  # type: ignore[arg-type]
    }
    return replace(first, **changed)  # type: ignore[type-var]


def _merged_field(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Program):
        return merged(values)
    if isinstance(values[0], tuple):
        return tuple(map(_merged_field, zip(*values, strict=True)))
    return values[0]


def _alike_modules(one: nn.Module, other: nn.Module) -> bool:
    """Whether they are of one kind, with tensors of one shape; hooks on one are to see what it does by itself."""
    if type(one) is not type(other) or one.training != other.training or _hooked(one) or _hooked(other):
        return False
    own, others = _state(one), _state(other)
    return own.keys() == others.keys() and all(alike(own[name], others[name]) for name in own)


def _state(module: nn.Module) -> dict[str, Any]:
    """All that a module acts by."""
    internal = nn.Module().__dict__
    plain = {name: value for name, value in module.__dict__.items() if name not in internal}
    return plain | module._parameters | module._buffers | module._modules


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _shape(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _acting(config: AdapterConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _UNLIKE}
