"""Parameters that adapters hold in common: one set, in training, in copies of a model and on disk."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, MTLLoRAConfig, MultiTask, Rows, Stack
from adapterhub.errors import AdapterNotFoundError, ConfigError, CorruptCheckpointError

CONFIG = MTLLoRAConfig(r=2, n_up_projection=2, task_specific_matrix_type="linear", output_lora=True)


def build(family: str = "bert", names: str = "ab") -> Any:
    torch.manual_seed(0)
    model: Any = adapterhub.init(tiny.model(family))
    for name in names:
        model.add_adapter(name, config=CONFIG)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def shared(model: Any) -> dict[str, list[bool]]:
    """For each kind of parameter, whether a and b hold the same one, site by site."""
    a, b = (dict(model.adapters[name].named_parameters()) for name in "ab")
    found: dict[str, list[bool]] = {}
    for path, parameter in a.items():
        found.setdefault(path.rpartition(".")[2], []).append(parameter is b[path])
    return found


def is_shared(model: Any) -> bool:
    found = shared(model)
    assert not any(found["task_matrix"]) and not any(found["up_weights"])
    assert all(found["lora_A"]) == all(found["lora_B"]) == any(found["lora_A"])
    return all(found["lora_A"])


def output(model: Any, setup: Any, **kwargs: Any) -> Tensor:
    with torch.no_grad(), AdapterSetup(setup):
        return model(**tiny.inputs("bert"), **kwargs).last_hidden_state


def test_one_set_of_parameters_with_the_values_of_the_reference() -> None:
    model = build()
    alone, count = output(model, "b"), len(list(model.parameters()))
    model.share_parameters(MultiTask("a", "b"), reference_adapter_name="b")
    assert is_shared(model)
    assert torch.equal(output(model, "b"), alone)
    assert len(list(model.parameters())) == count - 2 * len(model.adapters["a"].site_names)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_rows_of_each_task_are_as_they_are_alone(family: str) -> None:
    model = build(family)
    model.share_parameters("a,b")
    inputs = tiny.inputs(family, batch=4)
    with torch.no_grad(), AdapterSetup(MultiTask("a", "b")):
        mixed = model(**inputs, task_ids=[1, 0, 0, 1]).last_hidden_state
    for row, name in enumerate("baab"):
        with torch.no_grad(), AdapterSetup(name):
            own = model(**{key: value[row : row + 1] for key, value in inputs.items()}).last_hidden_state
        torch.testing.assert_close(mixed[row : row + 1], own, rtol=1e-4, atol=1e-5)


def test_a_step_for_one_task_moves_what_is_shared_for_both_and_nothing_else_of_the_other() -> None:
    model = build()
    model.share_parameters(["a", "b"])
    before = copy.deepcopy(model.adapters["b"].state_dict())
    model.train_adapter("a")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in model.adapters["a"].parameters()}
    optimizer = torch.optim.SGD(trained, lr=0.1)
    model(**tiny.inputs("bert")).last_hidden_state[..., 0].sum().backward()
    optimizer.step()
    for path, value in model.adapters["b"].state_dict().items():
        assert torch.equal(value, before[path]) != path.endswith(("lora_A", "lora_B")), path


def test_both_tasks_of_a_batch_train_it_together() -> None:
    model = build()
    model.share_parameters(["a", "b"])
    model.train_adapter(MultiTask("a", "b"))
    model.eval()
    part = model.adapters["a"].at("layers.1.feed_forward.down")
    gradients = []
    for rows, tasks in (([0], [0]), ([1], [1]), ([0, 1], [0, 1])):
        model.zero_grad()
        inputs = {name: value[rows] for name, value in tiny.inputs("bert").items()}
        model(**inputs, task_ids=tasks).last_hidden_state.square().sum().backward()
        gradients.append(part.lora_B.grad.clone())
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_model_share_too_and_not_with_it(again: Any) -> None:
    model = build()
    model.share_parameters(["a", "b"], name="both")
    other = again(model)
    assert is_shared(other)
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}
    other.unshare_parameters(["a"], name="both")
    assert not is_shared(other) and is_shared(model)


def test_own_copies_afterwards() -> None:
    model = build(names="abc")
    model.share_parameters(["a", "b", "c"])
    wanted = [output(model, name) for name in "abc"]
    model.unshare_parameters(["b"])
    assert not is_shared(model)
    assert all(torch.equal(output(model, name), one) for name, one in zip("abc", wanted, strict=True))
    model.adapters["b"].at("layers.0.attention.q").lora_A.data.zero_()
    assert torch.equal(output(model, "a"), wanted[0]) and not torch.equal(output(model, "b"), wanted[1])
    model.adapters["c"].at("layers.0.attention.q").lora_A.data.zero_()
    assert not torch.equal(output(model, "a"), wanted[0])
    with pytest.raises(ConfigError, match=r"b shares no parameters with any other adapter. Groups: 'a,b,c' of a, c"):
        model.unshare_parameters(["b", "c"])


def test_one_of_them_can_go() -> None:
    model = build()
    model.share_parameters(["a", "b"])
    wanted = output(model, "b")
    model.delete_adapter("a")
    assert torch.equal(output(model, "b"), wanted)
    with pytest.raises(ConfigError, match="Groups: none"):
        model.unshare_parameters("b")


def test_another_group_takes_no_one_else_along() -> None:
    model = build(names="abc")
    model.share_parameters(["a", "b"])
    before = output(model, "a")
    model.share_parameters(["b", "c"], reference_adapter_name="c")
    assert not is_shared(model) and torch.equal(output(model, "a"), before)


def test_moving_one_moves_what_it_shares_with() -> None:
    model = build()
    model.share_parameters(["a", "b"])
    model.adapter_to("a", dtype=torch.float64)
    assert is_shared(model)
    assert {parameter.dtype for parameter in model.adapters.parameters()} == {torch.float64}
    output(model, Rows(["a", "b", None]))


def test_a_model_comes_back_with_it(tmp_path: Path) -> None:
    model = build()
    model.share_parameters(["a", "b"], name="both")
    wanted = output(model, MultiTask("a", "b"), task_ids=[0, 1, 1])
    model.save_pretrained(tmp_path)
    assert is_shared(model)
    other = type(model).from_pretrained(tmp_path).eval()
    assert is_shared(other)
    torch.testing.assert_close(output(other, MultiTask("a", "b"), task_ids=[0, 1, 1]), wanted)
    other.unshare_parameters("a,b", name="both")


def test_a_setup_comes_back_with_it(tmp_path: Path) -> None:
    model = build(names="abc")
    model.share_parameters(["a", "b", "c"])
    setup = Stack(MultiTask("a", "b"))
    model.save_adapter_setup(tmp_path, setup)
    other = adapterhub.init(tiny.model("bert"))
    other.load_adapter_setup(tmp_path, set_active=True)
    assert is_shared(other)
    wanted = output(model, setup, task_ids=[0, 1, 0])
    torch.testing.assert_close(output(other, setup, task_ids=[0, 1, 0]), wanted)


def test_a_setup_of_which_one_part_was_replaced_is_refused(tmp_path: Path) -> None:
    model = build()
    model.share_parameters(["a", "b"])
    model.save_adapter_setup(tmp_path, MultiTask("a", "b"))
    model.unshare_parameters("a,b")
    model.adapters["b"].at("layers.0.attention.v").lora_A.data.zero_()
    model.save_adapter(tmp_path / "b", "b")
    other = adapterhub.init(tiny.model("bert"))
    with pytest.raises(CorruptCheckpointError, match=r"layers.0.attention.v.lora_A is not the same in both"):
        other.load_adapter_setup(tmp_path)
    assert not other.adapters
    content = json.loads((tmp_path / "adapter_setup.json").read_text())
    content["shared_parameters"] = ["a", "b"]
    (tmp_path / "adapter_setup.json").write_text(json.dumps(content))
    with pytest.raises(CorruptCheckpointError, match="is not the setup of adapters"):
        other.load_adapter_setup(tmp_path)


def test_one_that_is_saved_alone_is_whole(tmp_path: Path) -> None:
    model = build()
    model.share_parameters(["a", "b"])
    model.save_adapter(tmp_path, "b")
    other = adapterhub.init(tiny.model("bert"))
    other.load_adapter(tmp_path, set_active=True)
    assert torch.equal(output(other, "b"), output(model, "b"))


def test_merged_one_task_gives_what_it_gave() -> None:
    model = build()
    model.share_parameters(["a", "b"])
    bare, wanted = output(model, None), output(model, "b")
    model.merge_adapter("b")
    torch.testing.assert_close(output(model, None), wanted, rtol=1e-4, atol=1e-5)
    model.reset_adapter()
    assert torch.equal(output(model, None), bare)
    model.convert_adapter("b", "plain", rank=2)
    torch.testing.assert_close(output(model, "plain"), wanted, rtol=1e-4, atol=1e-5)


def test_in_a_union_each_part_shares_what_it_can() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    for name in "ab":
        model.add_adapter(name, config="mtl_lora[r=2]|seq_bn[reduction_factor=8]")
    model.share_parameters(["a", "b"])
    found = shared(model)
    assert all(found["lora_A"]) and all(found["lora_B"]) and not any(found["weight"])


@pytest.mark.parametrize(
    ("names", "options", "error", "said"),
    [
        (["a", "missing"], {}, AdapterNotFoundError, "missing"),
        (["a"], {}, ConfigError, "at least two adapters"),
        (["a", "b"], {"reference_adapter_name": "c"}, ConfigError, "the reference 'c'"),
        (["a", "larger"], {}, ConfigError, r"not alike.*lora_A is .*\(3, 32\).*\(2, 32\)"),
        (["a", "plain"], {}, ConfigError, "method 'lora', which has no parameters that could be shared"),
        (["b", "c"], {"name": "taken"}, ConfigError, "there is a group 'taken' already, with d, e in it"),
    ],
)
def test_what_cannot_be_shared_is_refused_and_nothing_changes(names: Any, options: Any, error: Any, said: str) -> None:
    model = build(names="abcde")
    model.add_adapter("larger", config=CONFIG.replace(r=3))
    model.add_adapter("plain", config="lora[r=2, output_lora=True]")
    model.share_parameters(["d", "e"], name="taken")
    before = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    with pytest.raises(error, match=said):
        model.share_parameters(names, **options)
    assert before == {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
