"""Adapters of one shape in one batch run as one: nothing is called once for each, and nothing comes out otherwise."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Composition, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.engine.stacked import MembersStep

NAMES = "abcdef"


def prepared(method: str = "seq_bn", family: str = "bert", kind: str = "Model", count: int = 6) -> Any:
    """A model with adapters of one configuration, and one of another."""
    model = adapterhub.init(tiny.model(family, kind))
    for name in NAMES[:count]:
        model.add_adapter(name, config=method)
    model.add_adapter("other", config="lora[r=3]")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def run(model: Any, setup: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    with AdapterSetup(setup):
        return model(**inputs, **options).last_hidden_state


def of_row(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: value[row : row + 1] for name, value in inputs.items()}


def linears_run(model: Any, setup: Any, inputs: dict[str, Tensor], **options: Any) -> int:
    """How many products with the weights of adapters a call has."""
    widths = {8, 2, 3}
    count = 0

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal count
            name = function.name()
            if name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"):
                shapes = [one.shape[-1] for one in args if isinstance(one, Tensor)]
                count += any(width in widths for width in shapes[-1:])
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Counting():
        run(model, setup, inputs, **options)
    return count


SETUPS: list[tuple[Composition, list[Any]]] = [
    (Rows(list("abcdef")), list("abcdef")),
    (Rows(["a", "b", "a", None, "other", "a"]), ["a", "b", "a", None, "other", "a"]),
    (Rows(["f", "f", "b", "b", "a", "a"]), list("ffbbaa")),
    (BatchSplit("a", "b", "c", batch_sizes=2), list("aabbcc")),
    (BatchSplit("a", "b", batch_sizes=[5, 1]), list("aaaaab")),
    (BatchSplit(Rows(["a", "b", "a"]), BatchSplit("c", "d", batch_sizes=[1, 2]), batch_sizes=3), list("abacdd")),
    (Rows([Stack("a", name) for name in "bcdef"] + ["a"]), [Stack("a", name) for name in "bcdef"] + ["a"]),
    (Rows([Average(name, "a", weights=[3, 1]) for name in "bcdefa"]),
     [Average(name, "a", weights=[3, 1]) for name in "bcdefa"]),
    (Rows([Split(name, "a", splits=3) for name in "bcdefa"]), [Split(name, "a", splits=3) for name in "bcdefa"]),
    (Rows([Fuse(*pair) for pair in ("ab", "cd", "ef", "ab", "cd", "a")]),
     [Fuse(*pair) for pair in ("ab", "cd", "ef", "ab", "cd", "a")]),
]  # fmt: skip
METHODS = ("seq_bn", "double_seq_bn[use_gating=True]", "lora[attn_matrices=[q, v], output_lora=True]", "dora", "ia3",
           "compacter[reduction_factor=4]", "houlsby_2019", "loreft")  # fmt: skip


@pytest.mark.parametrize(("setup", "rows"), SETUPS, ids=lambda one: repr(one)[:60])
@pytest.mark.parametrize("method", METHODS[:3])
def test_every_row_is_as_if_alone(method: str, setup: Composition, rows: list[Any]) -> None:
    model, inputs = prepared(method), tiny.inputs("bert", batch=6)
    for block in setup.walk():
        if isinstance(block, Fuse) and block.fusion not in model.fusions:
            model.add_adapter_fusion(block)
    nn.init.normal_(next(model.fusions.double().parameters(), torch.empty(1)))
    together = run(model, setup, inputs)
    for row, own in enumerate(rows):
        torch.testing.assert_close(together[row], run(model, own, of_row(inputs, row))[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_adapter_of_each_row(method: str) -> None:
    model, inputs = prepared(method).train(), tiny.inputs("bert", batch=4)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.requires_grad_(False)
    model.adapters.requires_grad_(True)
    for name in NAMES:  # loreft has dropout of its own
        model.adapters[name].eval()
    rows = ["c", "a", "b", "a"]
    model.zero_grad()
    run(model, Rows(rows), inputs).square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.adapters.named_parameters()}
    model.zero_grad()
    for row, name in enumerate(rows):
        run(model, name, of_row(inputs, row)).square().sum().backward()
    for name, parameter in model.adapters.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-8, msg=name)
    assert found["a." + next(name for name, _ in model.adapters["a"].named_parameters())] is not None


def test_one_product_serves_all_adapters_of_a_shape() -> None:
    model, inputs = prepared("seq_bn"), tiny.inputs("bert", batch=6)
    alone = linears_run(model, "a", inputs)
    assert alone
    for setup in (Rows(list("abcdef")), BatchSplit(*"abc", batch_sizes=2), Rows(list("aabcdf")), Parallel(*"abcdef")):
        assert linears_run(model, setup, inputs) == alone, setup
    assert linears_run(model, MultiTask("a", "b", "c"), inputs, task_ids=[0, 2, 1, 1, 0, 2]) == alone
    assert linears_run(model, Rows([Stack("a", one) for one in "bcdefb"]), inputs) == 2 * alone


def test_tasks_choose_among_adapters_that_run_as_one() -> None:
    model, inputs = prepared("seq_bn"), tiny.inputs("bert", batch=4)
    tasks = [2, 0, 2, 1]
    together = run(model, Parallel(MultiTask("a", "b", "c"), "d"), inputs, task_ids=tasks).unflatten(0, (2, 4))
    for row, task in enumerate(tasks):
        alone = run(model, Parallel("abc"[task], "d"), of_row(inputs, row))
        torch.testing.assert_close(together[:, row], alone, rtol=1e-6, atol=1e-8)


def test_a_value_that_changes_is_seen() -> None:
    model, inputs = prepared("seq_bn"), tiny.inputs("bert", batch=3)
    model.set_active_adapters(Rows(["a", "b", "c"]))
    parameter = next(model.adapters["b"].parameters())

    def check() -> None:
        with torch.no_grad():
            found = model(**inputs).last_hidden_state
        torch.testing.assert_close(found[1], run(model, "b", of_row(inputs, 1))[0], rtol=1e-6, atol=1e-8)

    check()
    with torch.inference_mode():
        model(**inputs)
    check()
    with torch.no_grad():
        parameter.mul_(2)
    check()
    model.adapters["b"].load_state_dict(model.adapters["d"].state_dict())
    check()
    parameter.data = torch.randn_like(parameter)
    check()
    model.delete_adapter("d")
    found = model(**inputs).last_hidden_state.square().sum()  # after values were kept, gradients still find theirs
    found.backward()
    assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_dropout_falls_on_every_row_by_itself() -> None:
    model = prepared("seq_bn[dropout=0.5]")
    inputs = {name: value[:1].repeat(4, 1) for name, value in tiny.inputs("bert", batch=1).items()}
    for name in "bcd":
        model.adapters[name].load_state_dict(model.adapters["a"].state_dict())
    model.adapters.train()
    found = run(model, Rows(list("abcd")), inputs)
    assert all(not torch.allclose(found[0], found[row]) for row in (1, 2, 3))
    model.adapters.eval()
    found = run(model, Rows(list("abcd")), inputs)
    assert torch.allclose(found[0], found[3])


@pytest.mark.parametrize("method", ["seq_bn", "lora", "dora"])
def test_it_compiles_as_a_whole(method: str) -> None:
    model, inputs = prepared(method, count=4), tiny.inputs("bert", batch=4)
    wanted = run(model, Rows(list("bacd")), inputs)
    model.set_active_adapters(Rows(list("bacd")))
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(compiled(**inputs).last_hidden_state, wanted, rtol=1e-6, atol=1e-8)


def test_what_is_not_alike_stays_apart() -> None:
    model, inputs = prepared("seq_bn", count=2), tiny.inputs("bert", batch=2)
    model.add_adapter("seeded", config="seq_bn[init_weights_seed=3, leave_out=[0]]")
    model.add_adapter("loud", config="seq_bn[non_linearity=gelu]")
    model.double().eval()

    def steps(*names: str) -> list[str]:
        plan = model.engine.acquire(Rows(list(names)))
        program = plan.sublayers["layers.1.feed_forward"]
        model.engine.release(plan)
        return [type(group.program).__name__ for group in program.together.groups]

    assert steps("a", "b") == ["MembersStep"] == steps("a", "seeded")
    assert steps("a", "loud") == ["Step", "Step"]
    seen = []
    handle = model.adapters["b"].at("layers.1.feed_forward").register_forward_hook(lambda *given: seen.append(given))
    assert steps("a", "b") == ["Step", "Step"]  # what hooks are to see is called
    with torch.no_grad():
        run(model, Rows(["a", "b"]), inputs)
    assert len(seen) == 1
    handle.remove()
    assert MembersStep.row_by_row is False


def test_gates_and_attentions_are_seen_of_every_adapter() -> None:
    model, inputs = prepared("seq_bn[use_gating=True]"), tiny.inputs("bert", batch=2)
    for fuse in (first := Fuse("a", "b"), second := Fuse("c", "d")):
        model.add_adapter_fusion(fuse)
    model.double()
    with AdapterSetup(Rows(["a", "b"])):
        gates = model(**inputs, output_adapter_gating_scores=True).adapter_gating_scores
    assert gates.keys() == {"a", "b"}
    with AdapterSetup(Rows([first, second])):
        attentions = model(**inputs, output_adapter_fusion_attentions=True).adapter_fusion_attentions
    assert attentions.keys() == {"a,b", "c,d"}


@pytest.mark.parametrize("beams", [1, 2])
def test_rows_are_generated_as_if_alone(beams: int) -> None:
    model = prepared("lora", "t5", "ForConditionalGeneration")
    ids = tiny.inputs("t5", batch=3)["input_ids"]
    options = {"max_new_tokens": 4, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": 98}
    with AdapterSetup(Stack("f", Rows(["b", "a", "b"]), Parallel("c", "d"))):
        together = model.generate(ids, **options).unflatten(0, (2, 3))
    for channel, last in enumerate("cd"):
        for row, name in enumerate("bab"):
            with AdapterSetup(Stack("f", name, last)):
                alone = model.generate(ids[row : row + 1], **options)
            assert together[channel, row, : alone.shape[1]].tolist() == alone[0].tolist()
