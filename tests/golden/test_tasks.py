"""MTL-LoRA of two tasks gives the outputs and gradients that ``adapters`` 1.3.0 gives with the same weights."""

import re
from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import MTLLoRAConfig, MultiTask
from goldens import base, read

LEAVES = {"task_specific.values": "task_matrix", "weights": "up_weights"}


@pytest.mark.parametrize("name", ["bert", "bart"])
def test_tasks_agree(name: str) -> None:
    groups, info = read(f"tasks/{name}-mtl_lora")
    model, inputs, bare = base(name)
    adapterhub.init(model)
    for adapter in "ab":
        model.add_adapter(adapter, config=MTLLoRAConfig(**info["config"]))
    model.share_parameters(["a", "b"])
    model.train_adapter(MultiTask("a", "b"))
    model.eval()
    places = {place.path: place.name for place in model.engine.places if place.whole and place.weight is not None}

    def own(path: str) -> Any:
        module, adapter, leaf = re.fullmatch(r"(.*)\.loras\.([ab])\.(.*)", path).groups()
        return model.adapters[adapter].at(places[module]).get_parameter(LEAVES.get(leaf, leaf))

    assert len(groups["adapter"]) == 2 * sum(4 for _ in model.adapters["a"].site_names)
    with torch.no_grad():
        for path, tensor in groups["adapter"].items():
            own(path).copy_(tensor)
    output = model(**inputs, task_ids=info["tasks"]).last_hidden_state
    torch.testing.assert_close(output, groups[""]["output"], rtol=0, atol=1e-5)
    assert (output - bare).abs().max() > 0.05
    (output * groups[""]["weight"]).sum().backward()
    for path, gradient in groups["gradient"].items():
        torch.testing.assert_close(own(path).grad, gradient, rtol=1e-4, atol=2e-4)
