"""What is checked of an adapter in a model: that it starts where it should, learns, leaves no trace, and is saved.

The inputs are random, so that nothing is zero that could hide a mistake, and so are the parameters of the adapter after
the first check. Every pass of the model is made from the same random state.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.adapter import nearest, site_paths
from adapterhub.errors import ConfigError, SiteError


@dataclass(frozen=True)
class Method:
    """A method as it is checked: configurations, of which the next is tried where one finds no place to act at.

    A prefix of random keys is no identity when it is added; all others are.
    """

    configs: tuple[str, ...]
    identity: bool = True


_LORA = "lora[attn_matrices=[q,k,v,o], intermediate_lora=True, output_lora=True, r=1]"
# At every kind of place, and small.
METHODS = {
    "bottleneck": Method(
        ("double_seq_bn[cross_adapter=True, original_ln_before=True, init_weights=mam_adapter, reduction_factor=4]",)
    ),
    "lora": Method((_LORA, "lora[target_modules=all-linear, r=1]")),
    "prefix": Method(("prefix_tuning_flat[prefix_length=3]",), identity=False),
    "reft": Method(("loreft[r=2, prefix_positions=2, suffix_positions=2, tied_weights=True, dropout=0.0]",)),
}
_NAME, _NOISE, _EXACT = "sweep", 0.1, 1e-6
Run = Callable[[], list[Tensor]]


class CheckError(Exception):
    """A check that failed, in words."""


@torch.no_grad()
def check(model: Any, method: str, run: Run) -> None:
    """Add an adapter of a method to a model that has none, check it, and remove it.

    Args:
        model: ready for adapters.
        method: one of ``METHODS``.
        run: gives the outputs of the model.

    Raises:
        CheckError: naming the check that failed.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bare, hooks = run(), _hooks(model)
    _require(not any(bool(output.isnan().any()) for output in bare), "the bare model gives values that are no numbers")
    _add(model, METHODS[method].configs)
    model.set_active_adapters(_NAME)
    if METHODS[method].identity:
        _require(_equal(run(), bare, _EXACT), "the output changes at initialisation, where nothing should")
    _randomise(model.adapters[_NAME].parameters())
    changed = run()
    _require(not _equal(changed, bare, 0.0), "the adapter changes nothing")
    _check_gradients(model, run)
    _check_saving(model, run, changed)
    model.delete_adapter(_NAME)
    check_base(model.state_dict(), before)
    _require(_hooks(model) == hooks, "hooks are left in the model")
    _require(_equal(run(), bare, 0.0), "the output is another after the adapter was removed")


def _add(model: Any, configs: tuple[str, ...]) -> None:
    first, *others = configs
    try:
        model.add_adapter(_NAME, config=first)
    except (ConfigError, SiteError):
        if not others:
            raise
        _add(model, tuple(others))


def check_base(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Pass a state dict that is what it was, to the bit.

    Raises:
        CheckError: naming the first tensor that is not.
    """
    _require(list(now) == list(before), "the base model has other keys")
    changed = [name for name, value in now.items() if not torch.equal(_bits(value), _bits(before[name]))]
    _require(not changed, f"the base model changed at {', '.join(changed[:3])}")


def _hooks(model: Any) -> dict[str, int]:
    """How many hooks each module has; some models have hooks of their own."""
    return {path: len(one._forward_hooks) + len(one._forward_pre_hooks) for path, one in model.named_modules()}


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.uint8) if value.dim() else value.reshape(1).view(torch.uint8)


def _parameter(module: nn.Module) -> Tensor | None:
    return next(module.parameters(), None)


def _check_gradients(model: Any, run: Run) -> None:
    """Every parameter gets one, but where the base model's own weights get none: it does not use that place."""
    adapter = model.adapters[_NAME]
    paths = site_paths(model.sites, model.engine.places)
    closest = {site: nearest(model, paths[site], _parameter) for site in adapter.site_names}
    base = list({id(parameter): parameter for parameter in closest.values() if parameter is not None}.values())
    parameters = dict(adapter.named_parameters())
    found = _gradients(run, [*parameters.values(), *base], model)
    used = {id(one) for one, value in zip(base, found[len(parameters) :], strict=True) if _learns(value)}
    idle = tuple(f"{site}." for site, one in closest.items() if id(one) not in used)
    dead = [
        name
        for name, value in zip(parameters, found, strict=False)
        if not _learns(value) and not (idle and name.startswith(idle))
    ]
    _require(len(idle) < len(closest), "no output depends on what the adapter changes")
    _require(not dead, f"{len(dead)} of {len(parameters)} parameters get no gradient: {', '.join(dead[:2])}")
    finite = all(bool(value.isfinite().all()) for value in found if value is not None)
    _require(finite, "there are gradients that are not finite")


def _learns(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


def _gradients(run: Run, parameters: list[Any], model: Any) -> tuple[Tensor | None, ...]:
    """Of a sum of all outputs, with random weights."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    with torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        outputs = [output for output in run() if output.requires_grad]
        _require(bool(outputs), "no output depends on the adapter differentiably")
        loss: Any = sum((output * torch.randn(output.shape, generator=generator)).mean() for output in outputs)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    return found


def _check_saving(model: Any, run: Run, changed: list[Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = {name: value.clone() for name, value in model.adapters[_NAME].state_dict().items()}
        model.save_adapter(folder, _NAME)
        model.delete_adapter(_NAME)
        model.load_adapter(Path(folder), set_active=True)
    loaded = model.adapters[_NAME].state_dict()
    _require(loaded.keys() == state.keys(), "the loaded adapter has other parameters")
    _require(all(torch.equal(loaded[name], state[name]) for name in state), "the loaded adapter has other values")
    _require(_equal(run(), changed, 0.0), "the loaded adapter gives another output")


def _randomise(parameters: Iterator[Tensor]) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(_NOISE * torch.randn(parameter.shape, generator=generator))


def _equal(some: list[Tensor], others: list[Tensor], tolerance: float) -> bool:
    """Whether outputs agree, up to a tolerance in parts of the largest value."""
    if [one.shape for one in some] != [one.shape for one in others]:
        return False
    return all(
        torch.equal(one, other) or bool((one - other).abs().max() <= tolerance * other.abs().max())
        for one, other in zip(some, others, strict=True)
    )


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise CheckError(problem)


def outputs_of(value: Any) -> Iterator[Tensor]:
    """All tensors of numbers in what a model gives; what it masks with infinity is 0."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value.masked_fill(value.isinf(), 0)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from outputs_of(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from outputs_of(one)


def seeded_run(model: PreTrainedModel, kwargs: Mapping[str, Any]) -> Run:
    """Passes of a model on some inputs, all from the same random state."""

    def run() -> list[Tensor]:
        torch.manual_seed(0)
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            return list(outputs_of(model(**kwargs)))

    return run
