"""Sites described by hand: adapters act where they act in sites that were discovered."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, BertForMaskedLM

import adapterhub
import tiny
from adapterhub import AdapterModelInterface, AutoAdapterModel, load_model
from adapterhub.errors import ConfigError, SiteError
from tiny import output, randomise

APART = {"attn_q_proj": "q_proj", "attn_k_proj": "k_proj", "attn_v_proj": "v_proj", "attn_o_proj": "o_proj"}
DECODER = APART | {
    "adapter_methods": ["bottleneck", "lora"],
    "model_embeddings": "embed_tokens",
    "model_layers": "layers",
    "layer_self_attn": "self_attn",
    "layer_cross_attn": None,
    "layer_intermediate_proj": "mlp.up_proj",
    "layer_output_proj": "mlp.down_proj",
    "layer_pre_self_attn": "input_layernorm",
    "layer_pre_ffn": "post_attention_layernorm",
}
BERT = {
    "adapter_methods": ["bottleneck", "lora", "reft"],
    "model_embeddings": "embeddings",
    "model_layers": "encoder.layer",
    "layer_self_attn": "attention",
    "layer_cross_attn": None,
    "attn_q_proj": "self.query",
    "attn_k_proj": "self.key",
    "attn_v_proj": "self.value",
    "attn_o_proj": "output.dense",
    "layer_intermediate_proj": "intermediate.dense",
    "layer_output_proj": "output.dense",
    "layer_pre_self_attn": "attention.self",
    "layer_pre_ffn": "intermediate",
    "layer_ln_1": "attention.output.LayerNorm",
    "layer_ln_2": "output.LayerNorm",
}
GPT2 = DECODER | {
    "model_embeddings": "wte",
    "model_layers": "h",
    "layer_self_attn": "attn",
    **dict.fromkeys(("attn_q_proj", "attn_k_proj", "attn_v_proj")),
    "attn_qkv_proj": "c_attn",
    "attn_o_proj": "c_proj",
    "layer_intermediate_proj": "mlp.c_fc",
    "layer_output_proj": "mlp.c_proj",
    "layer_pre_self_attn": "ln_1",
    "layer_pre_ffn": "ln_2",
}
PHI = DECODER | {
    "attn_o_proj": "dense",
    "layer_intermediate_proj": "mlp.fc1",
    "layer_output_proj": "mlp.fc2",
    "layer_pre_ffn": None,
}
INTERFACES: dict[str, dict[str, Any]] = {"bert": BERT, "gpt2": GPT2, "llama": DECODER, "qwen2": DECODER, "phi": PHI}
CONFIGS = (
    "seq_bn",
    "double_seq_bn",
    "par_bn",
    "lora[attn_matrices=[q,k,v,o],output_lora=True]",
    "loreft",
    "seq_bn_inv",
)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("family", INTERFACES)
def test_same_as_discovered(family: str, config: str) -> None:
    by_hand: Any = adapterhub.init(tiny.model(family), interface=AdapterModelInterface(**INTERFACES[family]))
    found: Any = adapterhub.init(tiny.model(family))
    for model in (by_hand, found):
        model.add_adapter("a", config=config, set_active=True)
        randomise(model, "a", 0.2)
    assert by_hand.adapters["a"].state_dict().keys() == found.adapters["a"].state_dict().keys()
    by_hand.adapters["a"].load_state_dict(found.adapters["a"].state_dict())
    torch.testing.assert_close(output(by_hand, family), output(found, family))


def test_a_model_in_which_nothing_is_discovered() -> None:
    """Its attention is called something else, so discovery finds no blocks."""
    model: Any = tiny.model("bert")
    for layer in model.encoder.layer:
        for path in ("attention.self", "attention.output", "attention"):
            module = layer.get_submodule(path)
            module.__class__ = type(f"Mixing{len(path)}", (type(module),), {})
    with pytest.raises(SiteError, match="by hand"):
        adapterhub.init(model)
    adapterhub.init(model, interface=AdapterModelInterface(**BERT))
    model.add_adapter("a", set_active=True)
    randomise(model, "a")
    other: Any = adapterhub.init(tiny.model("bert"))
    other.add_adapter("a", set_active=True)
    other.adapters["a"].load_state_dict(model.adapters["a"].state_dict())
    torch.testing.assert_close(output(model, "bert"), output(other, "bert"))


@pytest.mark.parametrize(
    "loader",
    [
        lambda folder: load_model(folder, BertForMaskedLM),
        lambda folder: load_model(folder, AutoModelForMaskedLM),
        lambda folder: adapterhub.AutoModelForMaskedLM.from_pretrained(folder),
        lambda folder: load_model(folder, adapterhub.classes.adapter_class(BertForMaskedLM)),
    ],
)
def test_saved_with_the_model(loader: Any, tmp_path: Path) -> None:
    interface = AdapterModelInterface(**BERT)
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"), interface=interface)
    model.add_adapter("a", set_active=True)
    randomise(model, "a")
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "adapter_interface.json").read_text())
    assert content["model_type"] == "bert" and content["interface"]["model_layers"] == "encoder.layer"
    again = loader(tmp_path).eval()
    assert again.adapter_interface == interface
    again.set_active_adapters("a")
    assert torch.equal(output(again, "bert"), output(model, "bert"))
    (tmp_path / "adapter_interface.json").write_text("{}")
    with pytest.raises(SiteError, match="no interface"):
        loader(tmp_path)


def test_models_are_loaded_by_any_class(tmp_path: Path) -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", set_active=True)
    randomise(model, "a")
    model.save_pretrained(tmp_path)
    assert model.adapter_interface is None and not (tmp_path / "adapter_interface.json").exists()
    for kind in (AutoModel, type(tiny.model("bert")), AutoAdapterModel, adapterhub.BertAdapterModel):
        again = load_model(tmp_path, kind).eval()
        again.set_active_adapters("a")
        assert torch.equal(output(again, "bert"), output(model, "bert"))


WRONG = {
    "both": (BERT | {"attn_qkv_proj": "self.qkv"}, "or else attn_qkv_proj"),
    "neither": (BERT | {"attn_q_proj": None}, "or else attn_qkv_proj"),
    "no layers": (BERT | {"model_layers": "blocks"}, "'blocks'"),
    "no list": (BERT | {"model_layers": "encoder"}, "no list of layers"),
    "no projection": (BERT | {"layer_output_proj": "output.linear"}, "'encoder.layer.0.output.linear'"),
    "no reader": (BERT | {"layer_pre_ffn": "before"}, "'encoder.layer.0.before'"),
    "nothing": (BERT | {"layer_self_attn": "other", "layer_output_proj": None}, "none of the sublayers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_told(case: str) -> None:
    values, words = WRONG[case]
    model = tiny.model("bert")
    before, kind = list(model.state_dict()), type(model)
    with pytest.raises(SiteError, match=words):
        adapterhub.init(model, interface=AdapterModelInterface(**values))
    assert type(model) is kind and list(model.state_dict()) == before


def test_configurations_that_do_not_fit_leave_the_model_as_it_was() -> None:
    model = tiny.model("bert")
    kind, names = type(model), [name for name, _ in model.named_modules()]
    with pytest.raises(ConfigError):
        adapterhub.init(model, {"a": "seq_bn", "b": "nothing"})
    assert type(model) is kind and [name for name, _ in model.named_modules()] == names
    ready: Any = adapterhub.init(model, {"a": "seq_bn", "b": "lora"})
    assert list(ready.adapters) == ["a", "b"]
