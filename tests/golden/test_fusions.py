"""AdapterFusion gives what ``adapters`` 1.3.0 gives: outputs, gradients, attention, and what is added to the loss."""

from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
from adapterhub.methods.fusion import AdapterFusionConfig
from goldens import FOLDER, base, ours, read

FILES = sorted(path.stem for path in (FOLDER / "fusions").glob("*.safetensors"))


def place(path: str) -> tuple[str, str]:
    """Where a tensor of the peer's belongs here: an adapter or a fusion, and its name in it."""
    path = path.replace(".adapter_fusion_layer.a,b.", ".adapters.a.adapter_fusion.")
    owner, name = ours(path)
    return ("a,b" if ".adapter_fusion." in name else owner), name.replace(".adapter_fusion.", ".")


@pytest.mark.parametrize("file", FILES)
def test_fusions_agree(file: str) -> None:
    groups, info = read(f"fusions/{file}")
    model, inputs, _ = base(file.partition("-")[0])
    adapterhub.init(model)
    for name in "ab":
        model.add_adapter(name, config="seq_bn[reduction_factor=2]")
    model.add_adapter_fusion(["a", "b"], AdapterFusionConfig.from_dict(info["config"]))
    model.train_adapter_fusion(["a", "b"])
    model.eval()
    holders: dict[str, Any] = {**model.adapters, **model.fusions}
    own = {(name, path): p for name, held in holders.items() for path, p in held.named_parameters()}
    given = {place(path): tensor for path, tensor in groups["adapter"].items()}
    assert own.keys() == given.keys()
    with torch.no_grad():
        for key, tensor in given.items():
            own[key].copy_(tensor)
    found = model(**inputs, output_adapter_fusion_attentions=True)
    torch.testing.assert_close(found.last_hidden_state, groups[""]["output"], rtol=0, atol=1e-5)
    attentions: dict[int, dict[str, Tensor]] = found.adapter_fusion_attentions["a,b"]
    for key, attention in groups["attention"].items():
        layer, _, kind = key.partition(".")
        torch.testing.assert_close(attentions[int(layer)][kind], attention, rtol=0, atol=1e-5)
    (found.last_hidden_state * groups[""]["weight"]).sum().backward()
    for path, gradient in groups["gradient"].items():
        torch.testing.assert_close(own[place(path)].grad, gradient, rtol=1e-4, atol=2e-4)
    added = model.get_fusion_regularization_loss()
    assert (added is None) == ("added" not in groups[""])
    if added is not None:
        torch.testing.assert_close(added, groups[""]["added"])
