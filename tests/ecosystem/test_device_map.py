"""Base models that accelerate spreads over devices and the disk, against the same model in memory."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

import adapterhub
import tiny
from adapterhub.composition import Average, Parallel, Rows, Stack
from adapterhub.errors import MergeError

METHODS = {
    "a": "seq_bn[reduction_factor=4]",
    "c": "lora[r=4,target_modules=all-linear]",
    "d": "dora[r=2]",
    "e": "ia3",
    "l": "loreft[r=2]",
    "n": "ln_tuning",
    "o": "lora[r=2,init_weights=pissa]",
    "p": "prefix_tuning[prefix_length=3]",
}
SETUPS = (*METHODS, Stack("a", "c"), Average("a", "d"), Rows(["a", "c", None]), Parallel("a", "e"))
PARTS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
WAYS = (
    "disk",
    pytest.param("cuda and cpu", marks=pytest.mark.cuda),
    pytest.param("cuda and disk", marks=pytest.mark.cuda),
)


def prepared(model: PreTrainedModel, adapters: PreTrainedModel | None = None) -> PreTrainedModel:
    """The model with an adapter of every kind, with values that change what it gives: new ones, or those of another."""
    adapterhub.init(model)
    torch.manual_seed(0)
    for name, config in METHODS.items():
        model.add_adapter(name, config=config)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_((0.1 * torch.randn(parameter.shape)).to(parameter.device))
    if adapters is not None:
        model.adapters.load_state_dict(adapters.adapters.state_dict())
    return model


@pytest.fixture
def plain(tmp_path: Path) -> PreTrainedModel:
    tiny.model("llama", "ForCausalLM").save_pretrained(tmp_path / "base")
    return prepared(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))


@pytest.fixture
def spread(way: str, plain: PreTrainedModel, tmp_path: Path) -> PreTrainedModel:
    """The model of ``plain``, some of it on the CPU or the GPU, and some on the disk."""
    first, _, second = way.partition(" and ")
    main = 0 if first == "cuda" else "cpu"
    places = dict.fromkeys(PARTS, main) | dict.fromkeys(("model.layers.1", "model.norm", "lm_head"), second or "disk")
    made = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", device_map=places, offload_folder=tmp_path / "offloaded"
    )
    assert any(parameter.is_meta for parameter in made.parameters())
    return prepared(made, plain)


def logits(model: PreTrainedModel, **labels: Tensor) -> Any:
    given = {name: value.to(model.get_input_embeddings().weight.device) for name, value in tiny.inputs("llama").items()}
    return model(**given, **labels)


@pytest.mark.parametrize("way", WAYS)
def test_every_setup_gives_the_same(plain: PreTrainedModel, spread: PreTrainedModel) -> None:
    assert not any(parameter.is_meta for parameter in spread.adapters.parameters())
    for setup in SETUPS:
        plain.set_active_adapters(setup)
        spread.set_active_adapters(setup)
        with torch.no_grad():
            torch.testing.assert_close(
                logits(spread).logits.cpu(),
                logits(plain).logits,
                rtol=1e-4,
                atol=1e-4,
                msg=lambda t, s=setup: f"{s}: {t}",
            )


@pytest.mark.parametrize("way", WAYS)
def test_training_generation_and_copies(plain: PreTrainedModel, spread: PreTrainedModel, tmp_path: Path) -> None:
    gradients = []
    for model in (plain, spread):
        model.train_adapter(Stack("a", "d"))
        model.eval()
        logits(model).logits.float().square().mean().backward()
        gradients.append({n: p.grad.cpu() for n, p in model.adapters.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)
    ids = tiny.inputs("llama")["input_ids"]
    device = spread.get_input_embeddings().weight.device
    generated = spread.generate(ids.to(device), max_new_tokens=4, do_sample=False)
    assert torch.equal(generated.cpu(), plain.generate(ids, max_new_tokens=4, do_sample=False))
    spread.save_adapter(tmp_path / "d", "d")
    plain.load_adapter(tmp_path / "d", load_as="again", set_active=True)
    again = logits(plain).logits
    plain.set_active_adapters("d")
    assert torch.equal(again, logits(plain).logits)
    twin = copy.deepcopy(spread)
    twin.set_active_adapters("d")
    spread.set_active_adapters("d")
    torch.testing.assert_close(logits(twin).logits, logits(spread).logits)


@pytest.mark.parametrize("way", ["disk"])
def test_a_merge_into_offloaded_weights_is_refused(spread: PreTrainedModel) -> None:
    with pytest.raises(MergeError, match=r"layers.1.*is offloaded"):
        spread.merge_adapter("c")
    assert spread.merged_adapter is None
