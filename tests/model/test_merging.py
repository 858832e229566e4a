"""Adapters of weights on models of every family: the identity at first, merged and taken out again to the bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

import adapterhub
import tiny
from adapterhub.errors import ConfigError, MergeError

CONFIGS = (
    "lora[r=4]",
    "lora[r=4, target_modules='all-linear', use_rslora=True, init_weights=gaussian]",
    "mtl_lora[r=4, n_up_projection=2, intermediate_lora=True]",
    "dora[r=4, intermediate_lora=True, output_lora=True]",
    "ia3",
    "vera[r=6, target_modules='all-linear', vera_b=0.0]",
    "dvora[r=6, vera_b=0.0]",
    "bitfit",
    "ln_tuning",
    "lhuc",
)
NO_BIASES = ("llama", "mistral", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "t5", "mt5", "modernbert")


def output(model: PreTrainedModel, family: str) -> Tensor:
    outputs = model(**tiny.inputs(family))
    return next(value for value in outputs.to_tuple() if torch.is_tensor(value))


def everything(model: PreTrainedModel, family: str) -> Tensor:
    """A number that depends on all that a model gives."""
    outputs = model(**tiny.inputs(family)).to_tuple()
    return sum(value.float().square().sum() for value in outputs if torch.is_tensor(value) and value.requires_grad)


def shake(model: PreTrainedModel, name: str, std: float = 0.2) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.adapters[name].parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_identity_gradients_and_merging(family: str, config: str) -> None:
    model = adapterhub.init(tiny.model(family))
    if config == "bitfit" and family in NO_BIASES:
        with pytest.raises(ConfigError, match="act nowhere"):
            model.add_adapter("a", config=config)
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        bare = output(model, family)
    model.add_adapter("a", config=config)
    model.train_adapter("a")
    model.eval()
    torch.testing.assert_close(output(model, family), bare, rtol=1e-5, atol=1e-5)
    shake(model, "a")
    adapted = output(model, family)
    assert (adapted - bare).abs().max() > 5e-5
    everything(model, family).backward()
    for path, parameter in model.adapters["a"].named_parameters():  # a softmax does not see what all keys share
        assert parameter.grad is not None and (parameter.grad.any() or path.endswith(".k.shift")), path
    assert all(p.grad is None for p in model.base_parameters())
    with torch.no_grad():
        model.merge_adapter("a")
        assert model.merged_adapter == "a" and model.active_adapters is None
        torch.testing.assert_close(output(model, family), adapted, rtol=1e-3, atol=1e-4)
        model.reset_adapter()
        assert torch.equal(output(model, family), bare)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_stacked_ones_add_up() -> None:
    model = adapterhub.init(tiny.model("gpt2"))
    for name in "ab":
        model.add_adapter(name, config="lora[r=2, attn_matrices=['k', 'v']]")
        shake(model, name)
    with torch.no_grad():
        model.set_active_adapters(["a", "b"])
        both = output(model, "gpt2")
        model.merge_adapter("a")
        model.set_active_adapters("b")
        torch.testing.assert_close(output(model, "gpt2"), both, rtol=1e-4, atol=1e-5)


def test_same_on_a_fused_weight_as_on_its_parts() -> None:
    """A LoRA of GPT-2's values gives what adding its product to their columns of the weight gives."""
    model = adapterhub.init(tiny.model("gpt2"))
    by_hand = tiny.model("gpt2")
    model.add_adapter("a", config="lora[r=2, attn_matrices=['v']]")
    shake(model, "a")
    model.set_active_adapters("a")
    with torch.no_grad():
        for index, block in enumerate(by_hand.h):
            part = model.adapters["a"].at(f"layers.{index}.attention.v")
            block.attn.c_attn.weight[:, 64:] += (4 * part.lora_B @ part.lora_A).T
        torch.testing.assert_close(output(model, "gpt2"), output(by_hand, "gpt2"), rtol=1e-4, atol=1e-5)


def test_embeddings_and_modules_outside_the_layers() -> None:
    model = adapterhub.AutoModelForSequenceClassification.from_config(tiny.model("bert").config)
    model.add_adapter("a", config="lora[r=2, target_modules=['word_embeddings', 'pooler.dense']]")
    assert set(model.adapters["a"].site_names) == {"base.embeddings.word_embeddings", "base.pooler.dense"}
    model.add_adapter("b", config="lora[r=2, target_modules=['classifier']]")
    assert model.adapters["b"].site_names == ("outside.classifier",)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="lora[r=2, use_dora=True, init_weights=pissa, rank_pattern={'v': 3}]")
    shake(model, "a")
    model.save_adapter(tmp_path, "a")
    other = adapterhub.init(tiny.model("bert"))
    other.load_adapter(tmp_path, set_active=True)
    model.set_active_adapters("a")
    assert torch.equal(output(model, "bert"), output(other, "bert"))


def test_what_cannot_be_merged_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20)
    model = adapterhub.init(BertForMaskedLM(config))
    model.add_adapter("bottleneck")
    model.add_adapter("tied", config="lora[r=2, target_modules=['word_embeddings', 'query']]")
    model.add_adapter("gated", config="lora[r=2, use_gating=True]")
    model.add_adapter("fine", config="lora[r=2]")
    shake(model, "fine")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refused = [
        ("bottleneck", MergeError, r"'bottleneck' \(bottleneck\) cannot be merged: it acts at layers.0.feed_forward"),
        ("tied", MergeError, "word_embeddings shares its weight with cls.predictions.decoder.weight"),
        ("gated", ConfigError, "depends on the input"),
    ]
    for name, error, said in refused:
        with pytest.raises(error, match=said):
            model.merge_adapter(name)
    assert model.merged_adapter is None
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    model.merge_adapter("fine")
    with pytest.raises(MergeError, match=r"'fine' is merged already: call reset_adapter\(\) first"):
        model.merge_adapter("fine")
    with pytest.raises(MergeError, match="holds the merged adapter 'fine'"):
        model.save_adapter(tmp_path / "fine", "fine")
    model.reset_adapter()
    model.save_adapter(tmp_path / "fine", "fine")


def test_a_target_that_is_not_there_names_what_is_near() -> None:
    model = adapterhub.init(tiny.model("bert"))
    with pytest.raises(ConfigError, match=r"no weight of this model is 'querry'. Near: query"):
        model.add_adapter("a", config="lora[target_modules=['querry']]")
    assert not model.has_adapters()
