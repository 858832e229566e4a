"""What numbers a machine computes with fastest, and models in them."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.stored import is_packed
from adapterhub.errors import ConfigError, MergeError
from adapterhub.inference.int8 import put_int8
from adapterhub.model import AdapterMixin, merging

Precision = Literal["auto", "own", "fp32", "bf16", "int8"]
FORMATS = {"bf16": "bfloat16", "fp32": "float32"}  # as people call them
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}


def best_precision() -> str:
    """``"bf16"`` where the machine computes in bfloat16 faster than in float32, else ``"fp32"``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    cpu = torch.cpu
    fast = getattr(cpu, "_is_avx512_bf16_supported", bool)() or getattr(cpu, "_is_amx_tile_supported", bool)()
    return "bf16" if fast else "fp32"


def training_precision(wanted: str) -> str:
    """``"bf16"`` or ``"fp32"``, as ``wanted``; for ``"auto"`` the best that the machine has."""
    return best_precision() if wanted == "auto" else wanted


def inference_precision(model: PreTrainedModel, precision: Precision, device: torch.device) -> str | None:
    """The precision to run a model in; None leaves it in its own.

    ``"auto"`` is bfloat16 where the machine has instructions for it, 8-bit integers on processors that have them for
    these alone, and else float32. A model that is not in float32, or quantised, was given its precision by somebody,
    and ``"auto"`` keeps it, as ``"own"`` keeps that of any model.

    Raises:
        ConfigError: for an unknown precision, or one that the model or the device cannot have.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}")
    if precision == "own":
        return None
    fixed = any(is_packed(parameter) for parameter in model.parameters()) or is_dispatched(model)
    if precision == "auto":
        if fixed or model.dtype != torch.float32:
            return None
        best = best_precision() if device.type in ("cpu", "cuda") else "fp32"
        multiplies_bytes = device.type == "cpu" and getattr(torch.cpu, "_is_vnni_supported", bool)()
        return "int8" if best == "fp32" and multiplies_bytes else best
    if fixed:
        raise ConfigError(
            f'this model is quantised or spread over devices, and stays as it is: precision="auto", not {precision!r}'
        )
    if precision == "int8" and device.type != "cpu":
        raise ConfigError(f'int8 is for processors: on {device.type} use precision="bf16", or quantise by torchao')
    return precision


def is_dispatched(model: PreTrainedModel) -> bool:
    """Whether accelerate spreads the model over devices, memory and disk."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1 or any(
        parameter.is_meta for parameter in model.parameters()
    )


@torch.no_grad()
def prepared(model: PreTrainedModel, precision: str | None, device: torch.device) -> PreTrainedModel:
    """A copy of a model to predict with: in evaluation mode, its adapter merged where that can be.

    ``model`` stays as it is, and the copy has in common with it what is the same in both. A model that is dispatched
    over devices is itself.
    """
    if is_dispatched(model):
        return model.eval()
    made = _with_active_alone(model)
    if precision is not None and model.dtype == torch.float32:  # in fewer bits a sum would be rounded once more
        made = _merged(made)
    dtype = None if precision is None else _TYPES[precision]
    kept = set(_kept_whole(made))

    def cast_one(name: str, parameter: Tensor) -> Tensor:
        changes = dtype is not None and parameter.is_floating_point() and not is_packed(parameter)
        return parameter.to(device, dtype if changes and name not in kept else None)

    made = _copied(made, cast_one)
    for module in made.modules():
        module._buffers.update(
            {name: buffer.to(device) for name, buffer in module._buffers.items() if buffer is not None}
        )
    if precision == "int8":
        put_int8(made.base_model, made.get_output_embeddings())
    return made.eval()


def _copied(model: PreTrainedModel, change: Callable[[str, Tensor], Tensor]) -> PreTrainedModel:
    """A copy of a model whose parameters are what ``change`` makes of them, by name; what it leaves is shared."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for name, parameter in model.named_parameters():
        made = change(name, parameter)
        memo[id(parameter)] = parameter if made is parameter else nn.Parameter(made, requires_grad=False)
    return copy.deepcopy(model, memo)


def _with_active_alone(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that shares all parameters, and holds no adapters but the active ones."""
    if not isinstance(model, AdapterMixin):
        return _copied(model, lambda name, parameter: parameter)
    active = () if model.active_adapters is None else model.active_adapters.flatten()
    idle = [name for name in model.adapters if name not in active]
    memo = {id(model.adapters[name]): model.adapters[name] for name in idle}
    memo |= {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    made = copy.deepcopy(model, memo)
    for name in idle:
        del made.adapters[name]
    return cast(PreTrainedModel, made)


def _merged(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its active adapter in its weights, if there is one alone and it acts on weights alone."""
    setup = model.active_adapters if isinstance(model, AdapterMixin) else None
    if setup is None or len(setup.flatten()) != 1 or model.merged_adapter is not None:
        return model
    (name,) = setup.flatten()
    if model.engine.active.skip_layers:
        return model
    try:
        changed = merging.modules_changed(model, name)
    except MergeError:
        return model
    own: Any = _copied(model, lambda path, one: one.clone() if path.rpartition(".")[0] in changed else one)
    merging.merge(own, name)
    own.set_active_adapters(None)
    return cast(PreTrainedModel, own)


def _kept_whole(model: PreTrainedModel) -> Iterator[str]:
    """Names of parameters that stay in their precision: what casts its input itself, and what a model asks for."""
    strict = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    heads = getattr(model, "heads", {})
    whole = ("adapters.", "fusions.", *(f"heads.{name}." for name, head in heads.items() if head.full_precision))
    for name, _ in model.named_parameters():
        if name.startswith(whole) or any(part in strict for part in name.split(".")):
            yield name
