"""LoRA that PEFT 0.21.2 trained at the weights of experts: read, it computes what PEFT computed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GptOssConfig, GptOssModel

import adapterhub
import goldens
from adapterhub.errors import CheckpointError, TensorMismatchError

FOLDER = goldens.FOLDER / "experts" / "gpt-oss-peft"


def altered(to: Path, targets: list[str], tensors: dict[str, Tensor] | None = None) -> Path:
    """A copy of the checkpoint with other targets, and other tensors."""
    shutil.copytree(FOLDER, to)
    path = to / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_parameters": targets}))
    if tensors is not None:
        save_file(tensors, to / "adapter_model.safetensors")
    return to


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_it_computes_what_peft_computed(implementation: str) -> None:
    model, inputs, bare = goldens.base("experts/gpt-oss")
    adapterhub.init(model)
    model.set_experts_implementation(implementation)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).last_hidden_state, bare, rtol=0, atol=1e-5)
        model.load_adapter(FOLDER, set_active=True)
        expected = load_file(FOLDER / "expected.safetensors")["output"]
        assert (expected - bare).abs().max() > 0.05
        torch.testing.assert_close(model(**inputs).last_hidden_state, expected, rtol=0, atol=1e-5)
    sites = set(model.adapters["gpt-oss-peft"].site_names)
    of_a_layer = ("attention.q", "feed_forward.experts.gate_up", "feed_forward.experts.down")
    assert sites == {f"layers.{layer}.{site}" for layer in (0, 1) for site in of_a_layer}


def test_one_parameter_alone_and_in_a_class_with_a_head(tmp_path: Path) -> None:
    """Not wrapped in another, a parameter has no ``base_layer`` in its path; and paths begin with ``model.`` there."""
    base, inputs, _ = goldens.base("experts/gpt-oss")
    headed = adapterhub.AutoModelForCausalLM.from_config(base.config).eval()
    headed.model.load_state_dict(base.state_dict())
    both = load_file(FOLDER / "adapter_model.safetensors")
    alone = {key: value for key, value in both.items() if "experts" not in key}
    alone |= {key.replace(".base_layer", ""): value for key, value in both.items() if ".base_layer" in key}
    folder = altered(tmp_path / "alone", ["experts.gate_up_proj"], alone)
    headed.load_adapter(folder, set_active=True)
    with torch.no_grad():
        found = headed.model(**inputs).last_hidden_state
        adapterhub.init(base)
        base.load_adapter(FOLDER, load_as="a", set_active=True)
        for layer in (0, 1):
            base.adapters["a"].at(f"layers.{layer}.feed_forward.experts.down").lora_B.zero_()
        torch.testing.assert_close(found, base(**inputs).last_hidden_state)


@pytest.mark.parametrize("targets", [["experts.down_proj"], ["down_proj_bias", "gate_up_proj"]])
def test_what_does_not_fit_is_refused(tmp_path: Path, targets: list[str]) -> None:
    model, _, _ = goldens.base("experts/gpt-oss")
    adapterhub.init(model)
    with pytest.raises(TensorMismatchError, match=r"adapts 2 parameters of .*experts, and can be read where they are"):
        model.load_adapter(altered(tmp_path / "a", targets))
    assert not model.adapters


def test_experts_of_another_size_are_refused() -> None:
    model = other_size(20)
    with pytest.raises(
        TensorMismatchError, match=r"gate_up_proj is for a weight \(16, 40\), and it is \(48, 16\) here"
    ):
        other_size(24).load_adapter(FOLDER)
    assert model.load_adapter(FOLDER)


def test_a_square_matrix_alone_could_be_either_way(tmp_path: Path) -> None:
    tensors = {
        f"base_model.model.layers.{layer}.mlp.experts.lora_{name}.weight": torch.randn(shape)
        for layer in (0, 1)
        for name, shape in (("A", (8, 16)), ("B", (16, 8)))
    }
    with pytest.raises(CheckpointError, match="cannot be told which way"):
        other_size(16).load_adapter(altered(tmp_path / "square", ["experts.down_proj"], tensors))


def other_size(intermediate_size: int) -> Any:
    """A model of the same kind with experts of another width."""
    settings = goldens.read("experts/gpt-oss")[1]["config"] | {"intermediate_size": intermediate_size}
    return adapterhub.init(GptOssModel(GptOssConfig(**settings)))
