"""LoRA, DoRA and (IA)³ with the same weights give the outputs and gradients of ``adapters`` 1.3.0 and PEFT 0.21.2."""

import re
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

import adapterhub
from adapterhub.methods import load_config
from adapterhub.model import AdapterMixin
from goldens import FOLDER, base, read

FILES = sorted(f"weights/{path.stem}" for path in (FOLDER / "weights").glob("*.safetensors"))
LEAVES = {"lora_magnitude_vector": "magnitude", "ia3_l": "scale"}


def ours(model: AdapterMixin, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a peer under the names that they have here."""
    adapter = model.adapters["a"]
    for path, tensor in tensors.items():
        module, leaf = re.fullmatch(
            r"(?:base_model\.model\.)?(.*?)(?:\.loras\.a)?\.((?:gate|lora|ia3).*)", path
        ).groups()
        leaf = leaf.removesuffix(".a.weight").removesuffix(".a")
        places = [place for place in model.engine.places if place.path == module and adapter.at(place.name) is not None]
        assert places, f"nothing acts at {module}"
        for place, part in zip(places, tensor.chunk(len(places)), strict=True):  # q and v of a fused weight
            yield f"{place.name}.{LEAVES.get(leaf, leaf)}", part.flatten() if leaf == "ia3_l" else part


@pytest.mark.parametrize("file", FILES)
def test_methods_agree(file: str) -> None:
    groups, info = read(file)
    model, inputs, bare = base(file.removeprefix("weights/").partition("-")[0])
    adapterhub.init(model)
    model.add_adapter("a", config=load_config(info["config"]))
    model.train_adapter("a")
    model.eval()
    own = dict(model.adapters["a"].named_parameters())
    given = dict(ours(model, groups["adapter"]))
    assert own.keys() == given.keys()
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
    output = model(**inputs).last_hidden_state
    torch.testing.assert_close(output, groups[""]["output"], rtol=0, atol=1e-5)
    assert (output - bare).abs().max() > 0.05
    (output * groups[""]["weight"]).sum().backward()
    for name, gradient in ours(model, groups["gradient"]):
        torch.testing.assert_close(own[name].grad, gradient, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("file", [file for file in FILES if "gated" not in file])
def test_merged_it_gives_the_same(file: str) -> None:
    groups, info = read(file)
    model, inputs, _ = base(file.removeprefix("weights/").partition("-")[0])
    adapterhub.init(model)
    model.add_adapter("a", config=load_config(info["config"]))
    own = dict(model.adapters["a"].named_parameters())
    with torch.no_grad():
        for name, tensor in ours(model, groups["adapter"]):
            own[name].copy_(tensor)
        model.merge_adapter("a")
        output = model(**inputs).last_hidden_state
    torch.testing.assert_close(output, groups[""]["output"], rtol=0, atol=2e-5)
