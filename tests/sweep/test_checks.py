"""Each check of the sweep, against a model with the fault that it is there to find."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adapterhub
import tiny
from adapterhub.sweep.checks import METHODS, CheckError, check, check_base, outputs_of, seeded_run

INPUTS = tiny.inputs("bert", batch=2)


@pytest.fixture
def model() -> Any:
    return adapterhub.init(tiny.model("bert"))


def examine(model: Any, method: str = "bottleneck", run: Callable[[], list[Tensor]] | None = None) -> None:
    check(model, method, run or seeded_run(model, INPUTS))


@pytest.mark.parametrize("method", METHODS)
def test_a_sound_model_passes_and_stays_as_it_was(model: Any, method: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examine(model, method)
    check_base(model.state_dict(), before)
    assert not model.adapters and all(parameter.requires_grad for parameter in model.parameters())


def test_a_change_at_initialisation_is_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterhub.methods.bottleneck.Bottleneck.forward", lambda self, h, *more: h * 1.01)
    with pytest.raises(CheckError, match="changes at initialisation"):
        examine(model)


def test_an_adapter_that_does_nothing_is_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterhub.methods.bottleneck.Bottleneck.forward", lambda self, h, *more: h)
    with pytest.raises(CheckError, match="changes nothing"):
        examine(model)


def test_a_parameter_without_gradient_is_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build = model.engine.build

    def with_one_more(name: str, config: Any) -> Any:
        adapter = build(name, config)
        adapter.at("layers.1.feed_forward").spare = nn.Parameter(torch.zeros(3))
        return adapter

    monkeypatch.setattr(model.engine, "build", with_one_more)
    with pytest.raises(CheckError, match=r"1 of \d+ parameters get no gradient: layers.1.feed_forward.spare"):
        examine(model)


def test_a_place_that_the_base_model_does_not_use_needs_no_gradient(model: Any) -> None:
    model.encoder.layer[1].register_forward_hook(lambda module, args, output: args[0] + 0 * args[0])
    examine(model)  # what the last layer makes is thrown away
    model.encoder.layer[0].register_forward_hook(lambda module, args, output: args[0] + 0 * args[0])
    with pytest.raises(CheckError, match=r"changes nothing"):
        examine(model)


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_a_base_that_changes_is_found(model: Any, method: str) -> None:
    run = seeded_run(model, INPUTS)

    def spoiling() -> list[Tensor]:
        if model.adapters:
            with torch.no_grad():
                model.pooler.dense.weight[0, 0].add_(1e-7)
        return run()

    with pytest.raises(CheckError, match=r"base model changed at pooler.dense.weight|changes at init|another output"):
        examine(model, method, spoiling)


def test_a_bit_more_in_a_state_dict_is_found() -> None:
    one = torch.zeros(3)
    with pytest.raises(CheckError, match="changed at w"):
        check_base({"w": -one}, {"w": one})
    with pytest.raises(CheckError, match="other keys"):
        check_base({"w": one, "v": one}, {"w": one})
    check_base({"w": one.clone()}, {"w": one})


def test_an_adapter_that_loads_otherwise_is_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = model.load_adapter

    def altered(*args: Any, **kwargs: Any) -> str:
        name: str = load(*args, **kwargs)
        with torch.no_grad():
            next(model.adapters[name].parameters()).add_(1e-6)
        return name

    monkeypatch.setattr(model, "load_adapter", altered)
    with pytest.raises(CheckError, match="loaded adapter has other values"):
        examine(model)


def test_hooks_that_stay_are_found(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = model.delete_adapter

    def leaving(name: str) -> None:
        delete(name)
        model.encoder.register_forward_hook(lambda module, args, output: None)

    monkeypatch.setattr(model, "delete_adapter", leaving)
    with pytest.raises(CheckError, match="hooks are left"):
        examine(model)


def test_a_model_of_which_the_outputs_are_no_numbers_is_found(model: Any) -> None:
    with torch.no_grad():
        model.pooler.dense.weight.fill_(float("nan"))
    with pytest.raises(CheckError, match="no numbers"):
        examine(model)


def test_outputs_are_all_tensors_of_numbers() -> None:
    inner = {"a": torch.ones(2), "b": (torch.tensor([float("-inf"), 1.0]), torch.ones(2, dtype=torch.long), None)}
    assert [value.tolist() for value in outputs_of([inner])] == [[1.0, 1.0], [0.0, 1.0]]
