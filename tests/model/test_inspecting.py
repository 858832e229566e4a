"""What a model says of its adapters; where things are is what ``adapters`` 1.3.0 says of the same models."""

from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
import tiny
from adapterhub import AdapterSetup, AutoAdapterModel, ModelAdaptersConfig, Parallel, SeqBnConfig, Stack
from adapterhub.errors import AdapterNotFoundError, ConfigError, HeadError
from adapterhub.methods import get_adapter_config_hash
from adapterhub.methods.lora import LoRAConfig
from tiny import randomise

BOTH = {0: ["mh_adapter", "output_adapter"], 1: ["mh_adapter", "output_adapter"]}
LORA = ["selfattn_lora", "intermediate_lora", "output_lora"]
WHERE = (
    ("bert", "seq_bn", {0: ["output_adapter"], 1: ["output_adapter"]}),
    ("bert", "double_seq_bn_inv", {-1: ["invertible"]} | BOTH),
    ("bert", "lora[intermediate_lora=True,output_lora=True]", {0: LORA, 1: LORA}),
    ("bert", "prefix_tuning_flat", {0: ["self_prefix"], 1: ["self_prefix"]}),
    ("bert", "compacter[reduction_factor=2]", {-1: ["shared"]} | BOTH),
    ("bert", "loreft", {0: ["output_reft"], 1: ["output_reft"]}),
    ("bart", "double_seq_bn[cross_adapter=True]", {2: ["mh_adapter", "cross_adapter", "output_adapter"]} | BOTH),
    (
        "bart",
        "prefix_tuning_flat",
        {0: ["encoder_prefix"], 1: ["encoder_prefix"], 2: ["self_prefix", "cross_prefix"]},
    ),
)


@pytest.mark.parametrize(("family", "config", "expected"), WHERE)
def test_modules_of_an_adapter(family: str, config: str, expected: dict[int, list[str]]) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    model.add_adapter("a", config=config)
    found = {layer: list(kinds) for layer, kinds in model.get_adapter("a").items()}
    found.pop(3, None)  # like 2
    assert {layer: sorted(kinds) for layer, kinds in found.items()} == {
        layer: sorted(kinds) for layer, kinds in expected.items()
    }
    modules = {
        module for kinds in model.get_adapter("a").values() for one in kinds.values() for module in one.modules()
    }
    held = {parameter for module in modules for parameter in module.parameters()}
    assert held == set(model.adapters["a"].parameters())  # all of it is somewhere
    with pytest.raises(AdapterNotFoundError):
        model.get_adapter("b")


def test_several_modules_at_one_location() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="lora[attn_matrices=[q,v]]|lora[attn_matrices=[k]]")
    found = model.get_adapter("a")[1]["selfattn_lora"]
    assert isinstance(found, torch.nn.ModuleList) and len(found) == 3


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart", "t5"])
def test_layers_and_their_parts(family: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    layers = dict(model.iter_layers())
    count = 4 if family in tiny.ENCODER_DECODERS else 2
    assert list(layers) == list(range(count))
    assert all(model.get_layer(index) is layer for index, layer in layers.items())
    attentions = [(index, kind) for index, kind, _ in model.iter_attentions()]
    crossed = [(2, "cross"), (3, "cross")] if count == 4 else []
    assert sorted(attentions) == sorted([(index, "self") for index in layers] + crossed)
    inside = {index: set(layer.modules()) for index, layer in layers.items()}
    assert all(module in inside[index] for index, _, module in model.iter_attentions())
    ffns = list(model.iter_layer_ffns())
    assert {(index, kind) for index, kind, _ in ffns} == {(i, k) for i in layers for k in ("intermediate", "output")}
    assert all(module in inside[index] for index, _, module in ffns)


def test_functions_over_modules() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="double_seq_bn_inv")
    seen: list[tuple[int, str]] = []
    model.apply_to_adapter_layers(lambda layer, module: seen.append((layer, type(module).__name__)))
    assert [layer for layer, _ in seen] == [0, 0, 1, 1]
    seen.clear()
    model.apply_to_basemodel_childs(lambda layer, module: seen.append((layer, type(module).__name__)))
    assert seen == [(-1, "NICE")]


def test_what_is_supported() -> None:
    text: Any = adapterhub.init(tiny.model("bert"))
    image: Any = adapterhub.init(tiny.model("vit"))
    for kind in ("bottleneck", "lora", "prefix_tuning", "reft", "invertible", "unipelt"):
        assert text.supports_adapter(kind)
    assert text.supports_adapter(LoRAConfig(r=4)) and image.supports_adapter("bottleneck")
    assert not image.supports_adapter("invertible")
    assert not text.supports_adapter("lora[target_modules=[nothing]]")
    with pytest.raises(ConfigError, match="unknown configuration"):
        text.supports_adapter("nothing")
    assert len(text.adapters) == 0


def test_parallel_and_names() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    for name in "ab":
        model.add_adapter(name)
    assert not model.has_parallel_adapters
    with AdapterSetup(Parallel("a", "b")):
        assert model.has_parallel_adapters
    model.set_active_adapters(Parallel("a", "b"))
    assert model.has_parallel_adapters
    model.config._name_or_path = "some/model"
    assert model.model_name == "some/model"


def test_setups_around() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", set_active=True)
    randomise(model, "a")
    inputs = tiny.inputs("bert")
    active = model(**inputs)[0]
    assert AdapterSetup.get_context() is None and AdapterSetup.get_context_adapter_setup() is None
    with AdapterSetup("a", "head") as setup:
        assert AdapterSetup.get_context() is setup
        assert AdapterSetup.get_context_adapter_setup() == Stack("a")
        assert AdapterSetup.get_context_head_setup() == "head"
    with AdapterSetup(None, ignore_empty=True):
        assert AdapterSetup.get_context() is None
        assert torch.equal(model(**inputs)[0], active)
    with AdapterSetup(None):
        assert not torch.equal(model(**inputs)[0], active)


def test_invertible_adapters() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="seq_bn_inv")
    model.add_adapter("b", config="seq_bn")
    randomise(model, "a", 0.2)
    assert list(model.invertible_adapters) == ["a"]
    hidden = torch.randn(2, 3, 32)
    assert model.get_invertible_adapter() is None
    assert torch.equal(model.invertible_adapters_forward(hidden), hidden)
    model.set_active_adapters(["b", "a"])
    module = model.get_invertible_adapter()
    assert module is model.invertible_adapters["a"]
    there = model.invertible_adapters_forward(hidden)
    torch.testing.assert_close(there, module(hidden))
    torch.testing.assert_close(model.invertible_adapters_forward(there, rev=True), hidden)
    model.train_adapter("b")
    model.enable_invertible_adapters(["a"])
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(one.requires_grad for name, one in model.adapters["a"].named_parameters() if "layers" in name)


def test_configurations_of_a_model() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="seq_bn[reduction_factor=8,leave_out=[1]]")
    model.add_adapter("b", config="seq_bn|lora[r=4]")
    model.add_adapter_fusion(["a", "b"], "static")
    model.set_active_adapters("a", skip_layers=[0])
    config = model.adapters_config
    assert list(config) == ["a", "b"] and len(config) == 2 and "a" in config and "c" not in config
    assert config.get("a") == SeqBnConfig(reduction_factor=8, leave_out=(1,)) and config.get("c") is None
    assert config.get("a")["reduction_factor"] == 8 and dict(config.get("a"))["leave_out"] == (1,)
    assert config.config_map[config.adapters["a"]] == config.get("a")
    assert config.match("a", SeqBnConfig, layer_idx=0, location_key="output_adapter") == config.get("a")
    assert config.match("a", SeqBnConfig, layer_idx=1) is None
    assert config.match("a", SeqBnConfig, location_key="mh_adapter") is None
    assert config.match("a", LoRAConfig) is None
    assert config.match("b", LoRAConfig) == LoRAConfig(r=4)
    assert config.active_setup == Stack("a") and config.skip_layers == (0,)
    fusion, names = config.get_fusion(["a", "b"])
    assert not fusion.value and names == ["a", "b"] and config.fusions == {"a,b": ["a", "b"]}
    assert config.get_fusion("c") == (None, None)
    with pytest.raises(ConfigError, match="reduction_factor"):
        config.common_config_value(["a", "b"], "reduction_factor")
    again = ModelAdaptersConfig.from_dict(config.to_dict())
    assert again.configs == config.configs and again.fusion_configs == config.fusion_configs
    other: Any = adapterhub.init(tiny.model("bert"), again)
    assert other.adapters_config.to_dict() == config.to_dict()


def test_digests_of_configurations() -> None:
    digest = get_adapter_config_hash("seq_bn")
    assert len(digest) == 16 and digest == get_adapter_config_hash(SeqBnConfig())
    assert digest != get_adapter_config_hash("seq_bn[reduction_factor=8]")
    names = ["reduction_factor"]
    assert get_adapter_config_hash("seq_bn", 8, names) == get_adapter_config_hash(
        "seq_bn[reduction_factor=8]", 8, names
    )


def test_all_heads_are_saved(tmp_path: Path) -> None:
    model: Any = AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_classification_head("one", num_labels=3)
    model.add_tagging_head("two")
    model.save_all_heads(tmp_path)
    other: Any = AutoAdapterModel.from_config(tiny.config("bert"))
    assert [other.load_head(tmp_path / name) for name in ("one", "two")] == ["one", "two"]
    static: Any = adapterhub.init(tiny.model("bert", "ForSequenceClassification"))
    static.save_all_heads(tmp_path / "static")
    assert (tmp_path / "static" / "head_config.json").exists()
    with pytest.raises(HeadError):
        adapterhub.init(tiny.model("bert")).save_all_heads(tmp_path / "none")
