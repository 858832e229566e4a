"""Channels of a ``Parallel`` that begin after the last sublayer of a layer: all before runs once."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub.composition import Parallel, Stack

FAMILIES = ("bert", "distilbert", "deberta-v2", "modernbert", "gpt2", "llama", "gemma2", "phi", "t5", "bart", "vit")
NAMES = ("a", "b", "p")


def prepared(family: str) -> PreTrainedModel:
    """A model with adapters after the feed-forward of all layers but the first, in double precision."""
    model = adapterhub.init(tiny.model(family))
    for name, kind in zip(NAMES, ("seq_bn", "seq_bn", "par_bn"), strict=True):
        model.add_adapter(name, config=f"{kind}[reduction_factor=4, leave_out=[0]]")
    model.add_adapter("early", config="double_seq_bn[reduction_factor=4, leave_out=[0]]")
    model.add_adapter("own", config="seq_bn[reduction_factor=4, leave_out=[0], train_layer_norm=True]")
    model.add_adapter("apart", config="seq_bn[reduction_factor=4, leave_out=[0], original_ln_after=False]")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def output(model: PreTrainedModel, family: str, setup: object) -> Tensor:
    model.set_active_adapters(setup)
    given = {
        name: value.double() if value.is_floating_point() else value for name, value in tiny.inputs(family).items()
    }
    found: Tensor = model(**given).last_hidden_state
    return found


@contextmanager
def rows_read(model: PreTrainedModel) -> Iterator[list[int]]:
    """How many rows the first module of the second layer's feed-forward reads, and the third layer."""
    rows: list[int] = []
    (ends,) = (one for one in model.sites.layers[1].sublayers if one.kind == "feed_forward")
    module = model.get_submodule(ends.output_at)
    handle = module.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    yield rows
    handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("names", [NAMES, ("a", "early"), ("a", "own"), ("apart", "apart")])
def test_each_channel_is_what_it_is_alone(family: str, names: tuple[str, ...]) -> None:
    model = prepared(family)
    together = output(model, family, Parallel(*names)).chunk(len(names))
    for name, own in zip(names, together, strict=True):
        torch.testing.assert_close(own, output(model, family, name))
    under = output(model, family, Stack("b", Parallel("a", "p"))).chunk(2)
    torch.testing.assert_close(under[1], output(model, family, Stack("b", "p")))
    torch.testing.assert_close(output(model, family, Parallel(*names)).chunk(len(names)), together)


@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
def test_what_is_before_runs_once(family: str) -> None:
    model = prepared(family)
    with rows_read(model) as rows:
        output(model, family, Parallel(*NAMES))
        assert rows == [3]
        output(model, family, Parallel("a", "early"))
        assert rows == [3, 6]
        model.train()  # dropout of the layer may come after the place of the adapters
        output(model, family, Parallel(*NAMES))
        assert rows == [3, 6, 9]


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_gradients_are_those_of_each_alone(family: str) -> None:
    model = prepared(family)
    model.train_adapter(Parallel(*NAMES))
    model.eval()
    weights = torch.randn(3, *output(model, family, "a").shape, dtype=torch.float64)
    (output(model, family, Parallel(*NAMES)).unflatten(0, (3, -1)) * weights).sum().backward()
    together = {path: parameter.grad for path, parameter in model.adapters.named_parameters()}
    model.zero_grad()
    for name, weight in zip(NAMES, weights, strict=True):
        (output(model, family, name) * weight).sum().backward()
    for path, parameter in model.adapters.named_parameters():
        assert (parameter.grad is None) == (together[path] is None)
        if parameter.grad is not None:
            torch.testing.assert_close(together[path], parameter.grad)


def test_a_copy_of_the_model_branches_too_and_nothing_stays_behind() -> None:
    model = prepared("bert")
    wanted = output(model, "bert", Parallel(*NAMES))
    twin = copy.deepcopy(model)
    torch.testing.assert_close(output(twin, "bert", Parallel(*NAMES)), wanted)
    model.set_active_adapters(None)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
