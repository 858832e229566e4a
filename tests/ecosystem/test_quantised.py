"""Adapters on quantised base models, against the same adapters on a model with the dequantised weights."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub.engine.stored import is_packed, values_of
from adapterhub.errors import MergeError, TrainingError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ADAPTERS = (
    "seq_bn[reduction_factor=4]",
    "lora[r=4,target_modules=all-linear]",
    "lora[r=4,init_weights=pissa]",
    "dora[r=4,attn_matrices=[q,o]]",
    "dvora[r=4]",
    "ia3",
    "unipelt[prefix_length=3]",
    "loreft[r=2]",
)


def base() -> PreTrainedModel:
    return tiny.model("llama", "ForCausalLM", hidden_size=64, head_dim=16, intermediate_size=64).to(DEVICE)


def int8() -> PreTrainedModel:
    quantisation = pytest.importorskip("torchao.quantization")
    model = base()
    quantisation.quantize_(model.model, quantisation.Int8WeightOnlyConfig())
    return model


def int4() -> PreTrainedModel:
    quantisation = pytest.importorskip("torchao.quantization")
    granularity = pytest.importorskip("torchao.quantization.granularity")
    model = base()
    config = quantisation.IntxWeightOnlyConfig(torch.int4, granularity.PerGroup(32))
    quantisation.quantize_(model.model, config)
    return model


def int8_inputs_too() -> PreTrainedModel:
    quantisation = pytest.importorskip("torchao.quantization")
    model = base()
    quantisation.quantize_(model.model, quantisation.Int8DynamicActivationInt8WeightConfig())
    return model


def bitsandbytes(folder: Path, **options: Any) -> PreTrainedModel:
    pytest.importorskip("bitsandbytes")
    base().save_pretrained(folder)
    config = transformers.BitsAndBytesConfig(**options)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map=DEVICE)


def nf4(folder: Path) -> PreTrainedModel:
    return bitsandbytes(folder, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


def llm_int8(folder: Path) -> PreTrainedModel:
    return bitsandbytes(folder, load_in_8bit=True)


def dequantised(model: PreTrainedModel) -> PreTrainedModel:
    """The model with plain linear maps of the values that its own have."""
    plain = base()
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            plain.get_submodule(path).weight.data = values_of(module).detach().float().clone()
    return plain


def inputs() -> dict[str, Tensor]:
    return {name: value.to(DEVICE) for name, value in tiny.inputs("llama").items()}


def trained(model: PreTrainedModel, config: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a model with an adapter that changes what it gives, and the gradients."""
    adapterhub.init(model)
    torch.manual_seed(0)
    model.add_adapter("a", config=config)
    model.train_adapter("a")
    model.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape).to(DEVICE))
    loss = model(**inputs(), labels=inputs()["input_ids"]).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.adapters.named_parameters()}


def assert_like_dequantised(model: PreTrainedModel, config: str, tolerance: float = 2e-4) -> None:
    before = {path: copy.deepcopy(values_of(m)) for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    wanted, wanted_gradients = trained(dequantised(model), config)
    loss, gradients = trained(model, config)
    torch.testing.assert_close(loss, wanted, rtol=tolerance, atol=tolerance)
    for name, gradient in wanted_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=50 * tolerance, atol=tolerance)
    assert any(gradient.any() for gradient in gradients.values())
    for path, values in before.items():
        assert torch.equal(values_of(model.get_submodule(path)), values)


@pytest.mark.parametrize("config", ADAPTERS)
@pytest.mark.parametrize("quantised", [int8, int4])
def test_torchao(quantised: Callable[[], PreTrainedModel], config: str) -> None:
    model = quantised()
    assert is_packed(model.model.layers[0].self_attn.q_proj.weight)
    assert_like_dequantised(model, config)


@pytest.mark.parametrize("config", ADAPTERS)
@pytest.mark.parametrize(
    ("quantised", "tolerance"),
    [pytest.param(nf4, 2e-3, marks=pytest.mark.cuda), (llm_int8, 5e-2)],  # in four bits it has no gradients on CPUs
)
def test_bitsandbytes(
    quantised: Callable[[Path], PreTrainedModel], tolerance: float, config: str, tmp_path: Path
) -> None:
    model = quantised(tmp_path)
    assert is_packed(model.model.layers[0].self_attn.q_proj.weight)
    assert_like_dequantised(model, config, tolerance)


def test_torchao_by_transformers_saved_and_loaded(tmp_path: Path) -> None:
    quantisation = pytest.importorskip("torchao.quantization")
    base().save_pretrained(tmp_path / "base")
    config = transformers.TorchAoConfig(quantisation.Int8WeightOnlyConfig())
    models = []
    for options in ({"quantization_config": config}, {"quantization_config": config}, {}):
        made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", device_map=DEVICE, **options)
        models.append(adapterhub.init(made))
    model, other, plain = models
    assert is_packed(model.model.layers[0].self_attn.q_proj.weight)
    model.add_adapter("a", config="dora[r=4]", set_active=True)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        wanted = model(**inputs()).logits
        model.save_adapter(tmp_path / "a", "a")
        for reader, tolerance in ((other, 0.0), (plain, 0.05)):
            reader.load_adapter(tmp_path / "a", set_active=True)
            torch.testing.assert_close(reader(**inputs()).logits, wanted, rtol=0, atol=tolerance)


def test_a_merge_into_quantised_weights_is_refused() -> None:
    model = adapterhub.init(int8())
    model.add_adapter("a", config="lora[r=4]", set_active=True)
    with pytest.raises(MergeError, match=r"q_proj is quantised.*merge into the model as it was before"):
        model.merge_adapter("a")
    assert model.merged_adapter is None
    assert model.active_adapters == adapterhub.Stack("a")


def test_quantised_inputs_are_for_inference_alone() -> None:
    model = adapterhub.init(int8_inputs_too())
    model.add_adapter("a", config="lora[r=4]")
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = adapterhub.init(dequantised(model))
    plain.engine.hold(copy.deepcopy(model.adapters["a"]))
    for one in (model, plain):
        one.set_active_adapters("a")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs()).logits, plain(**inputs()).logits, rtol=0, atol=0.1)
    with pytest.raises(TrainingError, match="gradients do not pass"):
        model.train_adapter("a")
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.model.norm.parameters())  # nothing was frozen
