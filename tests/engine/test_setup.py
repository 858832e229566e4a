"""The setup of a call: for one thread or task alone."""

import asyncio
import threading

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.errors import AdapterNotFoundError


@pytest.fixture
def model() -> PreTrainedModel:
    made = adapterhub.init(tiny.model("bert"))
    for name in "abcd":
        made.add_adapter(name, config="double_seq_bn[reduction_factor=4]")
    torch.manual_seed(0)
    for parameter in made.adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def run(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(**tiny.inputs("bert")).last_hidden_state


def alone(model: PreTrainedModel) -> dict[str | None, Tensor]:
    """What each adapter gives as the active one; None is the bare model."""
    results: dict[str | None, Tensor] = {}
    for name in (None, *model.adapters):
        model.set_active_adapters(name)
        results[name] = run(model)
    model.set_active_adapters(None)
    return results


def hooks(model: PreTrainedModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_block_wins_over_the_active_setup_and_ends(model: PreTrainedModel) -> None:
    expected = alone(model)
    model.set_active_adapters("a")
    with AdapterSetup("b"):
        assert torch.equal(run(model), expected["b"])
        with AdapterSetup(None):
            assert torch.equal(run(model), expected[None])
            with AdapterSetup("c"):
                assert torch.equal(run(model), expected["c"])
        assert torch.equal(run(model), expected["b"])
    assert torch.equal(run(model), expected["a"])


def test_an_error_inside_ends_the_block(model: PreTrainedModel) -> None:
    expected = alone(model)
    with pytest.raises(ZeroDivisionError), AdapterSetup("b"):
        run(model)
        raise ZeroDivisionError
    assert torch.equal(run(model), expected[None])
    assert hooks(model) == 0


def test_hooks_stand_only_where_and_while_they_are_needed(model: PreTrainedModel) -> None:
    assert hooks(model) == 0
    with AdapterSetup("a"):
        run(model)
        assert hooks(model) == 8  # reader and writer of two sublayers in two layers
    assert hooks(model) == 0
    model.set_active_adapters("a")
    with AdapterSetup("b"):
        run(model)
    assert hooks(model) == 8
    model.delete_adapter("a")
    assert hooks(model) == 0


def test_threads_do_not_see_each_other(model: PreTrainedModel) -> None:
    expected = alone(model)
    failures: list[str] = []
    barrier = threading.Barrier(5)

    def work(name: str | None) -> None:
        barrier.wait()
        for _ in range(20):
            if name is None:
                result = run(model)
            else:
                with AdapterSetup(name):
                    result = run(model)
            if not torch.equal(result, expected[name]):
                failures.append(str(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in (None, *"abcd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert hooks(model) == 0


def test_tasks_do_not_see_each_other(model: PreTrainedModel) -> None:
    expected = alone(model)

    async def work(name: str) -> bool:
        with AdapterSetup(name):
            for _ in range(5):
                await asyncio.sleep(0)
                if not torch.equal(run(model), expected[name]):
                    return False
        return True

    async def main() -> list[bool]:
        return await asyncio.gather(*(work(name) for name in "abcd"))

    assert all(asyncio.run(main()))


def test_one_setup_object_may_be_entered_by_many(model: PreTrainedModel) -> None:
    expected, setup, failures = alone(model), AdapterSetup("c"), []

    def work() -> None:
        for _ in range(20):
            with setup:
                if not torch.equal(run(model), expected["c"]):
                    failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_missing_adapter_is_an_error_when_the_model_runs(model: PreTrainedModel) -> None:
    with (
        pytest.raises(AdapterNotFoundError, match="no adapter named zzz in this model; it holds: a, b, c, d"),
        AdapterSetup("zzz"),
    ):
        run(model)
    assert hooks(model) == 0


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_recomputed_under_the_setup_of_the_forward_pass(
    model: PreTrainedModel, reentrant: bool
) -> None:
    model.train_adapter("a")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    def gradients() -> list[Tensor]:
        model.zero_grad()
        with AdapterSetup("a"):
            loss = model(**tiny.inputs("bert")).last_hidden_state.sin().sum()
        loss.backward()  # the block is over: the recomputation has to enter it again
        return [parameter.grad.clone() for parameter in model.adapters["a"].parameters()]

    model.set_active_adapters(None)
    expected = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for got, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_hooks_that_another_thread_puts_in_the_middle_of_a_pass_are_passed_by(model: PreTrainedModel) -> None:
    """A pass of the bare model has begun; then the hooks of another thread's setup are there, which noted nothing."""
    bare, sublayer = run(model), next(iter(model.sites.sublayers))
    done: list[Tensor] = []
    entered = threading.Event()

    def meanwhile() -> None:
        with AdapterSetup("a"):
            model.engine.enter()
            entered.set()
            passed.wait()

    def begin(module: torch.nn.Module, args: object) -> None:
        other.start()
        entered.wait()

    passed, other = threading.Event(), threading.Thread(target=meanwhile)
    handle = model.get_submodule(sublayer.output_at).register_forward_pre_hook(begin)
    worker = threading.Thread(target=lambda: done.append(run(model)))
    worker.start()
    worker.join()
    passed.set()
    other.join()
    handle.remove()
    assert len(done) == 1 and torch.equal(done[0], bare)
