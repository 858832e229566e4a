"""The same weights give the same outputs and gradients as in ``adapters`` 1.3.0: the golden files beside this one."""

import json
from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import Stack
from adapterhub.methods.bottleneck import BottleneckConfig
from goldens import FOLDER, base, ours, read

ARCHITECTURES = ("bert", "roberta", "distilbert", "gpt2", "t5", "bart")
NAMED: dict[str, dict[str, Any]] = json.loads((FOLDER / "configs.json").read_text(encoding="utf-8"))
FILES = sorted(path.stem for path in FOLDER.glob("*-*.safetensors"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bare_models_agree(name: str) -> None:
    model, inputs, expected = base(name)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).last_hidden_state, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("file", FILES)
def test_adapters_agree(file: str) -> None:
    groups, info = read(file)
    model, inputs, bare = base(file.partition("-")[0])
    adapterhub.init(model)
    for name in info["stack"]:
        model.add_adapter(name, config=BottleneckConfig.from_dict(info["config"]))
    model.train_adapter(Stack(*info["stack"]))
    model.eval()
    own = {(name, path): p for name in info["stack"] for path, p in model.adapters[name].named_parameters()}
    given = {ours(path): tensor for path, tensor in groups["adapter"].items()}
    assert own.keys() == given.keys()
    with torch.no_grad():
        for key, tensor in given.items():
            own[key].copy_(tensor)
    output = model(**inputs).last_hidden_state
    torch.testing.assert_close(output, groups[""]["output"], rtol=0, atol=1e-5)
    assert (output - bare).abs().max() > 0.1
    (output * groups[""]["weight"]).sum().backward()
    for path, gradient in groups["gradient"].items():
        torch.testing.assert_close(own[ours(path)].grad, gradient, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("configuration", ["seq_bn", "double_seq_bn", "par_bn"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_is_left_out(name: str, configuration: str) -> None:
    assert f"{name}-{configuration}" in FILES


@pytest.mark.parametrize("name", NAMED)
def test_names_mean_the_same(name: str) -> None:
    given, own = NAMED[name], adapterhub.load_config(name).to_dict()
    shared = (own.keys() & given.keys()) - {"inv_adapter_reduction_factor"}  # of no effect without one
    assert {key: list(own[key]) if key == "leave_out" else own[key] for key in shared} == {k: given[k] for k in shared}
    assert own.keys() - shared == {"method", "train_layer_norm", "inv_adapter_reduction_factor"}
    assert own["inv_adapter"] is None
