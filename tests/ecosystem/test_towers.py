"""Models of several towers: each is addressed by its name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub.errors import ConfigError
from adapterhub.methods.registry import named_configs

# One of every method that can leave out layers; a ladder stands beside models of one tower alone.
METHODS = {
    config.method: config
    for config in named_configs().values()
    if hasattr(config, "leave_out") and config.method != "ladder"
}


@pytest.mark.parametrize(("family", "left"), [("clip", "vision_model"), ("bart", "encoder")])
def test_an_adapter_leaves_out_a_tower(family: str, left: str) -> None:
    model = adapterhub.init(tiny.model(family))
    in_tower = {place.name for place in model.engine.places if place.tower == left}
    assert in_tower
    for method, config in METHODS.items():
        options = {"phm_dim": 2, "reduction_factor": 8} if method == "compacter" else {}
        model.add_adapter(method, config=config.replace(leave_out=(left,), **options))
        sites = set(model.adapters[method].site_names)
        assert sites and not in_tower & sites, method


def embeddings(model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        output = model(**tiny.inputs("clip"))
    return output.text_embeds, output.image_embeds


def test_only_one_tower_changes_and_each_has_a_configuration_of_its_own(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model("clip"))
    bare = embeddings(model)
    configs = {
        "text": "lora[r=4,leave_out=[vision_model]]",
        "image": "seq_bn[reduction_factor=4,leave_out=[text_model]]",
        "both": "lora[r=4,leave_out=[vision_model]]|seq_bn[reduction_factor=4,leave_out=[text_model]]",
    }
    for name, config in configs.items():
        model.add_adapter(name, config=config)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for name, changed in (("text", (True, False)), ("image", (False, True)), ("both", (True, True))):
        model.set_active_adapters(name)
        found = embeddings(model)
        assert tuple(not torch.equal(one, other) for one, other in zip(found, bare, strict=True)) == changed
        model.save_adapter(tmp_path / name, name)
        other = adapterhub.init(tiny.model("clip"))
        other.load_adapter(tmp_path / name, set_active=True)
        assert all(map(torch.equal, embeddings(other), found))
    other.add_adapter("all", config="seq_bn[reduction_factor=4]", set_active=True)
    other.save_adapter(tmp_path / "all", "all")
    found = embeddings(other)
    other.load_adapter(tmp_path / "all", load_as="less", leave_out=["text_model"], set_active=True)
    text, image = embeddings(other)
    assert torch.equal(text, bare[0]) and torch.equal(image, found[1]) and not torch.equal(image, bare[1])


def test_a_tower_that_is_not_there() -> None:
    for family, there in (("clip", "vision_model"), ("bert", "one tower alone")):
        model = adapterhub.init(tiny.model(family))
        with pytest.raises(ConfigError, match=rf"'audio_model'.*{there}"):
            model.add_adapter("a", config="lora[leave_out=[audio_model]]")
        assert not model.has_adapters()
