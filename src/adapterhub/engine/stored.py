"""Weights that are packed into few bits (torchao, bitsandbytes), or kept elsewhere until they are used (accelerate)."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from adapterhub.errors import TrainingError

_PLAIN = (nn.Parameter, Tensor)


def is_packed(weight: Tensor) -> bool:
    """Whether the values of a weight are packed: in integers, or in a tensor with a dequantisation of its own."""
    return not weight.is_floating_point() or type(weight).dequantize is not Tensor.dequantize


def values_of(module: nn.Module) -> Tensor:
    """The weight of a module as a matrix of numbers: itself, or what is loaded or unpacked of it."""
    weight = cast(Tensor, module.weight)
    if weight.is_meta:
        with loaded([module]):
            weight = cast(Tensor, module.weight)
    if type(weight) in _PLAIN or not is_packed(weight):
        return weight
    if type(weight).dequantize is not Tensor.dequantize:
        return weight.dequantize()
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight  # which imports it, where it is there

    return cast(Tensor, dequantize_bnb_weight(weight, getattr(module, "state", None)))


@contextmanager
def loaded(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Have the weights of modules in memory inside, also where they are offloaded."""
    with ExitStack() as stack:
        for module in modules:
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                stack.enter_context(align_module_device(module))
        yield


def device_of(module: nn.Module) -> torch.device | None:
    """Where a module runs: the device of its first parameter, or the one that offloaded weights are loaded to."""
    for part in module.modules():
        hook: Any = getattr(part, "_hf_hook", None)
        device = next((one.execution_device for one in getattr(hook, "hooks", [hook]) if _says_device(one)), None)
        if device is not None:
            return torch.device(device)
        parameter = next(part.parameters(recurse=False), None)
        if parameter is not None:
            return parameter.device
    return None


def _says_device(hook: Any) -> bool:
    return getattr(hook, "execution_device", None) is not None


def check_gradients(modules: Iterable[nn.Module]) -> None:
    """Pass modules through which gradients reach what is before them.

    Raises:
        TrainingError: for a weight that is applied to quantised inputs: adapters before it would not learn from it.
    """
    for module in modules:
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear) or not isinstance(weight, Tensor) or not weight.is_floating_point():
            continue
        if type(weight) in _PLAIN or not is_packed(weight):
            continue
        with torch.enable_grad():
            probe = torch.zeros(1, module.in_features, dtype=weight.dtype, device=weight.device, requires_grad=True)
            passed = nn.functional.linear(probe, weight).requires_grad
        if not passed:
            raise TrainingError(
                f"gradients do not pass the weights of this model ({type(weight).__name__} with inputs that are "
                "quantised too), so adapters before them cannot be trained: quantise the weights alone "
                "(Int8WeightOnlyConfig, say)"
            )
        return
