import copy
import pickle

import pytest
import torch
from torch import nn

from adapterhub.engine.named import NamedModules
from adapterhub.errors import ConfigError

AWKWARD = ["sst-2", "train", "type", "forward", "_modules", "keys", "AdapterHub/a b", "training"]


@pytest.fixture
def filled() -> NamedModules[nn.Linear]:
    modules: NamedModules[nn.Linear] = NamedModules()
    for name in AWKWARD:
        modules[name] = nn.Linear(2, 1)
    return modules


def test_holds_any_name_as_a_mapping(filled):
    assert list(filled) == list(filled.keys()) == AWKWARD
    assert len(filled) == len(AWKWARD)
    assert all(filled[name] is module and name in filled for name, module in filled.items())
    assert filled.get("nothing") is None and "nothing" not in filled
    assert filled.train() is filled and filled.training  # the methods of the module are still there
    del filled["train"]
    assert "train" not in filled
    with pytest.raises(KeyError):
        filled["train"]


def test_modules_are_submodules(filled):
    keys = {f"{name}.{leaf}" for name in AWKWARD for leaf in ("weight", "bias")}
    assert set(filled.state_dict()) == keys == {name for name, _ in filled.named_parameters()}
    other: NamedModules[nn.Linear] = NamedModules()
    for name in AWKWARD:
        other[name] = nn.Linear(2, 1)
    other.load_state_dict(filled.state_dict())
    assert all(torch.equal(other[name].weight, filled[name].weight) for name in AWKWARD)
    assert filled.double()["train"].weight.dtype == torch.float64
    filled.eval()
    assert not filled["train"].training


def test_an_empty_mapping_hashes_and_compares_by_identity():
    first, second = NamedModules(), NamedModules()
    assert len({first, second}) == 2 and not first


def test_a_module_may_be_replaced_through_the_parent():
    parent = nn.Module()
    parent.heads = NamedModules()
    parent.heads["sst-2"] = nn.Linear(2, 1)
    other = nn.Linear(2, 1)
    parent.set_submodule("heads.sst-2", other)
    assert parent.heads["sst-2"] is other


def test_submodules_are_found_under_any_name(filled):
    assert filled.get_submodule("") is filled
    assert filled.get_submodule("train") is filled["train"]
    assert filled.get_parameter("type.weight") is filled["type"].weight
    with pytest.raises(AttributeError, match="'nothing'"):
        filled.get_submodule("nothing.weight")


@pytest.mark.parametrize("name", ["", "a.b", 3, None])
def test_refuses_a_name_that_is_no_key(name):
    modules = NamedModules()
    with pytest.raises(ConfigError, match="name"):
        modules[name] = nn.Linear(1, 1)
    assert not modules


def test_refuses_what_is_no_module():
    with pytest.raises(ConfigError, match="got int"):
        NamedModules()["a"] = 3


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_is_copied_with_its_modules(filled, clone):
    other = clone(filled)
    assert list(other) == AWKWARD
    assert other["type"] is not filled["type"] and torch.equal(other["type"].weight, filled["type"].weight)


def test_compiles_without_a_graph_break(filled):
    x = torch.randn(3, 2)
    compiled = torch.compile(lambda: filled["train"](x) + filled["type"](x), fullgraph=True, backend="eager")
    assert torch.equal(compiled(), filled["train"](x) + filled["type"](x))
