"""Checkpoints written as PEFT 0.21.2 writes them: the tensors that it wrote itself, and what has no equal there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adapterhub
import goldens
import tiny
from adapterhub.errors import CheckpointError, ConfigError
from goldens import PEFT, classifier

# What PEFT can say in more than one way: biases, tokens and beginnings are written as a LoRA and nothing else, a seed
# as the matrices that are drawn from it.
OTHERWISE = ("all_biases", "biases", "changed_base", "pissa", "tokens")
SAME = sorted({path.name for path in PEFT.iterdir()} - {*OTHERWISE, "vera_drawn", "pickled"})


def targets(folder: Path, model: Any) -> dict[str, tuple[float, float]]:
    """The rank and the alpha of every module that a LoRA acts on, by the rules of PEFT."""
    config = json.loads((folder / "adapter_config.json").read_text())
    keys = load_file(folder / "adapter_model.safetensors")
    paths = {key.split(".lora_")[0].removeprefix("base_model.model.") for key in keys if ".lora_" in key}

    def of(patterns: dict[str, float], path: str, default: float) -> float:
        return next((one for pattern, one in patterns.items() if re.match(rf"(.*\.)?({pattern})$", path)), default)

    return {
        path: (of(config["rank_pattern"], path, config["r"]), of(config["alpha_pattern"], path, config["lora_alpha"]))
        for path in paths
    }


@pytest.mark.parametrize("label", SAME)
def test_the_tensors_are_those_that_peft_wrote(label: str, tmp_path: Path) -> None:
    model, _, _ = classifier(label)
    model.load_adapter(PEFT / label)
    model.save_adapter(tmp_path / "out", label, format="peft")
    made, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "out", PEFT / label))
    heads = {key for key in made if key.endswith(("model.classifier.weight", "model.classifier.bias", "score.weight"))}
    assert made.keys() - heads == theirs.keys() - heads  # a head that was not trained is written too
    assert all(torch.allclose(made[key], theirs[key], rtol=0, atol=1e-6) for key in theirs)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["classifier" if hasattr(model, "classifier") else "score"]
    if config["peft_type"] == "LORA":
        assert targets(tmp_path / "out", model) == targets(PEFT / label, model)


@pytest.mark.parametrize(
    "label", ["plain", "changed_base", "pissa", "pickled", "vera_drawn", "norms", "gpt2_ia3", "biases"]
)
def test_read_again_it_gives_the_same(label: str, tmp_path: Path) -> None:
    model, inputs, expected = classifier(label)
    model.load_adapter(PEFT / label, allow_pickle=True)
    model.save_adapter(tmp_path / "out", label, format="peft")
    model.load_adapter(tmp_path / "out", load_as="again", set_active=True)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        adapterhub.LoRAConfig(r=2, alpha=6, attn_matrices=("q", "v"), output_lora=True),
        adapterhub.LoRAConfig(r=2, use_rslora=True, attn_matrices=("q", "k", "v"), rank_pattern={"k": 3}, bias=True),
        adapterhub.DoRAConfig(r=2, alpha=3, bias=True),
        adapterhub.IA3Config(),
    ],
    ids=["LoRA", "rsLoRA", "DoRA", "(IA)³"],
)
def test_parts_of_a_fused_weight_are_written_as_the_whole(config: Any, tmp_path: Path) -> None:
    bare, inputs, _ = goldens.base("gpt2")
    model: Any = adapterhub.init(bare)
    model.add_adapter("a", config=config, set_active=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.adapters["a"].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        wanted = model(**inputs).last_hidden_state
        model.save_adapter(tmp_path / "out", "a", format="peft")
        model.load_adapter(tmp_path / "out", load_as="b", set_active=True)
        torch.testing.assert_close(model(**inputs).last_hidden_state, wanted, rtol=0, atol=1e-5)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert "c_attn" in written["target_modules"] or "h.0.attn.c_attn" in written["target_modules"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("seq_bn", "no equal of the method 'bottleneck'"),
        ("lora[use_gating=True]", "use_gating"),
        ("dvora[attn_matrices=[q]]", "convert the adapter to a LoRA"),
        ("prefix_tuning|lora", "'union'"),
        ("bitfit", "'bitfit'"),
        ("prefix_tuning_flat", "shift_positions=True"),
    ],
)
def test_what_peft_has_no_equal_of_is_refused(config: str, said: str, tmp_path: Path) -> None:
    model: Any = adapterhub.init(goldens.base("bert")[0])
    model.add_adapter("a", config=config)
    with pytest.raises(CheckpointError, match=said):
        model.save_adapter(tmp_path / "out", "a", format="peft")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["decoder_prompt=True", "decoder_prompt=True, encoder_prompt=False"])
def test_a_prompt_of_a_decoder_after_an_encoder_has_no_equal(options: str, tmp_path: Path) -> None:
    model: Any = adapterhub.init(goldens.base("t5")[0])
    model.add_adapter("a", config=f"prompt_tuning[{options}]")
    model.add_adapter("b", config=f"prompt_tuning[{options}, insert_at=embedding_output]")
    for name, form, said in (("a", "peft", "the encoder's"), ("b", "adapters", "no prompts in a decoder")):
        with pytest.raises(CheckpointError, match=said):
            model.save_adapter(tmp_path / "out", name, format=form)
    whisper: Any = adapterhub.init(tiny.model("whisper"))
    whisper.add_adapter("a", config="prompt_tuning")
    with pytest.raises(CheckpointError, match="an encoder of tokens"):
        whisper.save_adapter(tmp_path / "out", "a", format="peft")
    assert not (tmp_path / "out").exists()


def test_formats_and_heads_that_are_not_there(tmp_path: Path) -> None:
    model = goldens.flexible("bert")
    model.add_adapter("a", config="lora")
    model.add_classification_head("a")
    with pytest.raises(ConfigError, match="adapterhub, adapters, peft"):
        model.save_adapter(tmp_path / "out", "a", format="onnx")
    with pytest.raises(CheckpointError, match="with_head=False"):
        model.save_adapter(tmp_path / "out", "a", format="peft")
    with pytest.raises(CheckpointError, match="no flexible heads"):
        model.save_head(tmp_path / "out", "a", format="peft")
    with pytest.raises(CheckpointError, match="no place for meta_dict"):
        model.save_adapter(tmp_path / "out", "a", with_head=False, meta_dict={"by": "me"}, format="peft")
    model.save_adapter(tmp_path / "out", "a", with_head=False, format="peft")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
