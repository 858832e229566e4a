"""``torch.compile``: whole graphs for every method and composition, and what was traced follows the setup."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Composition, Fuse, Parallel, Rows, Split, Stack
from adapterhub.methods.registry import named_configs

# One name of every method, with the options that a width of 32 asks for.
METHODS = tuple({config.method: name for name, config in reversed(named_configs().items())}.values())
_FITTED = {"compacter": "compacter[phm_dim=2,reduction_factor=8]"}
SETUPS = (
    Stack("c", "a"),
    Average("a", "c"),
    Fuse("a", "c"),
    Rows(["a", "c", None, "a"]),
    BatchSplit("a", Split("c", "a", splits=3), batch_sizes=[1, 3]),
    Parallel("a", Stack("c", "a")),
)


class Counted:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def prepared(family: str, **configs: str) -> PreTrainedModel:
    torch.compiler.reset()
    model = adapterhub.init(tiny.model(family, num_hidden_layers=1))
    for name, config in configs.items():
        model.add_adapter(name, config=config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def first(model: Any, family: str, **kwargs: Any) -> Tensor:
    with torch.no_grad():
        return model(**tiny.inputs(family, batch=4), **kwargs)[0]


@pytest.mark.parametrize("config", METHODS)
def test_every_method_is_one_graph(config: str) -> None:
    family = "bert" if config in ("bitfit", "compacter") else "llama"  # which has no biases
    model = prepared(family, a=_FITTED.get(config, config))
    model.set_active_adapters("a")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(first(compiled, family), first(model, family), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setup", SETUPS, ids=repr)
def test_a_model_compiled_in_place_is_one_graph_under_a_setup(setup: Composition) -> None:
    model = prepared("llama", a="seq_bn[reduction_factor=8]", c="lora[r=4]")
    model.add_adapter_fusion(Fuse("a", "c"))
    with AdapterSetup(setup):
        wanted = first(model, "llama")
        model.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(first(model, "llama"), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activate", ["in the model", "by a block"])
def test_setups_are_traced_once_each(activate: str) -> None:
    model = prepared("bert", a="seq_bn[reduction_factor=8]", c="lora[r=4]")
    backend = Counted()
    compiled = torch.compile(model, backend=backend)
    for setup in ("a", "c", "a", "c", "a", None, "c"):
        with AdapterSetup(setup) if activate == "by a block" else contextlib.nullcontext():
            if activate == "in the model":
                model.set_active_adapters(setup)
            torch.testing.assert_close(first(compiled, "bert"), first(model, "bert"), rtol=1e-5, atol=1e-5)
    assert backend.graphs == 3


class Breaking(nn.Module):
    """A module in which torch.compile has to begin a new graph."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        torch._dynamo.graph_break()
        return self.module(*args, **kwargs)


@pytest.mark.parametrize("activate", ["in the model", "by a block"])
def test_a_model_with_graph_breaks_of_its_own_follows_the_setup(activate: str) -> None:
    torch.compiler.reset()
    bare = tiny.model("bert", num_hidden_layers=1)
    bare.encoder.layer[0].attention.self = Breaking(bare.encoder.layer[0].attention.self)
    model = adapterhub.init(bare)
    for name, config in {"a": "seq_bn", "c": "lora[output_lora=True]"}.items():
        model.add_adapter(name, config=config)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    compiled = torch.compile(model, backend="eager")
    for setup in (None, "a", "c", None, "a"):
        with AdapterSetup(setup) if activate == "by a block" else contextlib.nullcontext():
            if activate == "in the model":
                model.set_active_adapters(setup)
            torch.testing.assert_close(first(compiled, "bert"), first(model, "bert"), rtol=1e-5, atol=1e-5)
