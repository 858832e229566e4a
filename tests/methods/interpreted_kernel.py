"""The kernel by Triton's interpreter, on the CPU: each share of a batch gives what its adapter gives alone.

``test_gathered.py`` runs this file in a process of its own, as Triton has to know before it is imported.
"""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor, nn
from triton.runtime.interpreter import InterpreterBuilder

import adapterhub
import tiny
from adapterhub import AdapterSetup, load_config
from adapterhub.composition import Average, Fuse, Rows
from adapterhub.methods import Place, gathered
from adapterhub.methods.bottleneck import Bottleneck, BottleneckConfig
from adapterhub.methods.lora import LoRAConfig, LowRank
from adapterhub.methods.stacked import Stacked, Unit, linear

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
OUT = 21  # of a weight that LoRA acts on


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each launch of the kernel."""
    known: list[dict[str, Any]] = []
    kernel = gathered._kernel()
    inner = kernel.low_rank

    class Noting:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*args: Any, **options: Any) -> None:
                known.append(options)
                inner[grid](*args, **options)

            return launch

    monkeypatch.setattr(kernel, "low_rank", Noting())
    return known


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def widened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter keeps bfloat16 as its bits, and would multiply these: products of float32 are the same."""
    inner = InterpreterBuilder.create_dot

    def dot(self: Any, one: Any, other: Any, *rest: Any) -> Any:
        wide = [self.cast_impl(it, tl.float32) if it.dtype.scalar == tl.bfloat16 else it for it in (one, other)]
        return inner(self, *wide, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


def filled(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_(0, 0.3)
    return part.to(dtype).eval()


def bottlenecks(config: BottleneckConfig, width: int, count: int, dtype: torch.dtype) -> list[nn.Module]:
    place = Place("layer", "sublayer", "feed_forward", 0, width)
    return [filled(Bottleneck(config, place), dtype) for _ in range(count)]


def together(parts: list[nn.Module], which: Tensor | None, method: str, args: list[Tensor], fixed: Any) -> Tensor:
    units = [Unit(part, fixed) for part in parts]
    columns = zip(*(unit.holders().values() for unit in units), strict=True)
    tensors = [torch.stack([kept[name] for kept, name in column]) for column in columns]
    return Stacked(units[0]).run(tensors, method, args, fixed, which=which)


def check(
    parts: list[nn.Module], which: list[int] | None, method: str, args: list[Tensor], fixed: Any, tolerance: float
) -> None:
    """That of ``[shares, ...]`` each share gives what its part gives alone in full precision."""
    with torch.no_grad():
        found = together(parts, None if which is None else torch.tensor(which), method, args, fixed)
        exact = [copy.deepcopy(part).float() for part in parts]
        used = enumerate(range(len(parts)) if which is None else which)
        with torch.autocast("cpu", enabled=False):
            alone = [getattr(exact[at], method)(*(arg[share].float() for arg in args), *fixed) for share, at in used]
    torch.testing.assert_close(found.float(), torch.stack(alone), rtol=tolerance, atol=tolerance)


# adapters, which, rows of a share, tokens, width, reduction factor
SHAPES = {
    "one token": (3, [2, 0], 1, 1, 16, 4),
    "odd sizes": (3, [2, 0, 1, 2, 2], 1, 7, 50, 4.5),
    "several rows a share": (2, [1, 0], 3, 5, 33, 3),
    "more than a block of tokens": (2, [1, 1, 0], 1, 70, 24, 2),
    "in turn": (3, None, 2, 4, 20, 5),
    "a wide bottleneck": (2, [1, 0], 1, 3, 130, 0.5),
    "no tokens": (2, [1, 0], 1, 0, 16, 4),
    "no rows": (2, [], 1, 4, 16, 4),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["forward", "update"])
def test_shapes(shape: str, method: str, launched: list[Any]) -> None:
    count, which, rows, tokens, width, factor = SHAPES[shape]
    config = BottleneckConfig(original_ln_before=True, reduction_factor=factor)
    shares = count if which is None else len(which)
    args = [torch.randn(shares, rows, tokens, width) for _ in range(2)]
    parts = bottlenecks(config, width, count, torch.float32)
    if shares:
        check(parts, which, method, args, (normed,), 1e-5)
        assert len(launched) == (tokens > 0)
    else:
        assert together(parts, torch.tensor([], dtype=torch.long), method, args, (None,)).shape == args[0].shape


@pytest.mark.parametrize("activation", gathered.ACTIVATIONS)
def test_activations(activation: str, launched: list[Any]) -> None:
    config = BottleneckConfig(non_linearity=activation, reduction_factor=2)
    args = [torch.randn(2, 1, 6, 16) * 2 for _ in range(2)]
    check(bottlenecks(config, 16, 2, torch.float32), [1, 0], "forward", args, (None,), 2e-5)
    assert len(launched) == 1


FORMS = {
    "sequential": {},
    "parallel, a number": {"is_parallel": True, "scaling": 4.0},
    "learned": {"scaling": "learned"},
    "a channel": {"scaling": "channel", "original_ln_before": True, "residual_before_ln": False},
    "post_add": {"original_ln_before": True, "residual_before_ln": "post_add"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("method", ["forward", "update"])
def test_forms(form: str, dtype: torch.dtype, method: str, launched: list[Any]) -> None:
    config = BottleneckConfig(reduction_factor=3, **FORMS[form])  # type: ignore[arg-type]
    args = [torch.randn(3, 2, 5, 19).to(dtype) for _ in range(2)]
    check(bottlenecks(config, 19, 2, dtype), [1, 0, 1], method, args, (normed,), TOLERANCE[dtype])
    assert (
        len(launched) == 1 and together(bottlenecks(config, 19, 3, dtype), None, method, args, (None,)).dtype == dtype
    )


def normed(states: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(states, states.shape[-1:])


@pytest.mark.parametrize("method", ["forward", "update"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_base_of_another_precision(autocast: bool, method: str, launched: list[Any]) -> None:
    config = BottleneckConfig(reduction_factor=3, original_ln_before=True)
    args = [torch.randn(3, 1, 5, 19).bfloat16() for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        check(bottlenecks(config, 19, 2, torch.float32), [1, 0, 1], method, args, (None,), 2e-2)
    assert len(launched) == 1


@pytest.mark.parametrize("method", ["forward", "update"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_lora(method: str, dtype: torch.dtype, launched: list[Any]) -> None:
    parts = [lora(dtype) for _ in range(3)]
    args = [torch.randn(4, 2, 5, OUT).to(dtype), torch.randn(4, 2, 5, 13).to(dtype)]
    check(parts, [2, 0, 0, 1], method, args, (weight(),), TOLERANCE[dtype])
    assert len(launched) == 1 and not launched[0]["has_biases"]


def weight() -> Any:
    def applied(down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return linear(linear(inputs, down), up)

    return SimpleNamespace(shape=(OUT, 13), experts=None, takes_stacks=True, apply_factors=applied)


def lora(dtype: torch.dtype) -> nn.Module:
    place = Place("layer", "query", "q", 0, 13)
    return filled(LowRank(LoRAConfig(r=3, alpha=5), place, weight()), dtype)


def test_what_is_not_there_is_no_number() -> None:
    parts = bottlenecks(BottleneckConfig(reduction_factor=3), 9, 2, torch.float32)
    args = [torch.randn(3, 1, 4, 9) for _ in range(2)]
    with torch.no_grad():
        found = together(parts, torch.tensor([1, 2, -1]), "forward", args, (None,))
    assert found[0].isfinite().all() and found[1:].isnan().all()


OTHERWISE = {
    "gate": {"use_gating": True},
    "a non-linearity that it lacks": {"non_linearity": "mish"},
    "norm": {"ln_after": True},
    "too wide": {"reduction_factor": 16 / 520},
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_the_plain_path_does_the_rest(case: str, launched: list[Any]) -> None:
    config = BottleneckConfig(**{"reduction_factor": 4, **OTHERWISE[case]})  # type: ignore[arg-type]
    args = [torch.randn(2, 1, 4, 16) for _ in range(2)]
    check(bottlenecks(config, 16, 2, torch.float32), [1, 0], "forward", args, (None,), 1e-4)
    assert not launched


def test_gradients_take_the_plain_path(launched: list[Any]) -> None:
    parts = bottlenecks(BottleneckConfig(reduction_factor=3), 9, 2, torch.float32)
    args = [torch.randn(2, 1, 4, 9) for _ in range(2)]
    together(parts, None, "forward", args, (None,)).sum().backward()
    assert not launched and all(parameter.grad is not None for parameter in parts[0].parameters())


@pytest.mark.parametrize("method", ["seq_bn", "double_seq_bn", "scaled_par_bn", "adapter_plus", "lora"])
def test_rows_of_a_model(method: str, launched: list[Any]) -> None:
    model = adapterhub.init(tiny.model("bert", "Model")).eval()
    names = ["a", "b", "c"]
    tiny.with_adapters(model, dict.fromkeys(names, method), Fuse("a", "b"), std=0.2)
    bank = model.engine.add_bank("bank", load_config(method), capacity=5)
    for slot, name in enumerate(names):
        bank.put(slot + 1, model.adapters[name].state_dict())
    inputs = tiny.inputs("bert", batch=4)

    def run(setup: Any, **options: Any) -> Tensor:
        with torch.no_grad(), AdapterSetup(setup):
            return model(**inputs, **options).last_hidden_state

    alone = {name: run(name) for name in (*names, None)}
    assert not launched
    mixed = torch.stack([alone["b"][0], alone["a"][1], alone["b"][2], alone[None][3]])
    torch.testing.assert_close(run(Rows(["b", "a", "b", None])), mixed, rtol=1e-5, atol=1e-5)
    before = len(launched)
    assert before
    torch.testing.assert_close(run("bank", adapter_slots=[2, 1, 2, -1]), mixed, rtol=1e-5, atol=1e-5)
    assert len(launched) == 2 * before
    mean = Average("a", "b")
    torch.testing.assert_close(run(Rows([mean, Average("c", "b"), mean, mean]))[0], run(mean)[0], rtol=1e-5, atol=1e-5)
