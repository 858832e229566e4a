"""LoRA against its equations, written out with plain matrices; and against PEFT's numbers for the same tensors."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub.engine.weights import (
    ConvolutionWeight,
    EmbeddingWeight,
    LinearWeight,
    PartOfWeight,
    TransposedWeight,
)
from adapterhub.errors import ConfigError
from adapterhub.methods import Place, Weight, load_config
from adapterhub.methods.lora import LoRAConfig, LowRank


def linear(bias: bool = True) -> tuple[nn.Module, Weight, Tensor]:
    module = nn.Linear(6, 5, bias=bias)
    return module, LinearWeight(module), torch.randn(2, 3, 6)


def transposed() -> tuple[nn.Module, Weight, Tensor]:
    module = Conv1D(5, 6)
    nn.init.normal_(module.bias)
    return module, TransposedWeight(module), torch.randn(2, 3, 6)


def embedding() -> tuple[nn.Module, Weight, Tensor]:
    module = nn.Embedding(9, 5)
    return module, EmbeddingWeight(module), torch.randint(0, 9, (2, 4))


def convolution(groups: int = 1) -> tuple[nn.Module, Weight, Tensor]:
    module = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    return module, ConvolutionWeight(module), torch.randn(2, 4, 7, 7)


def grouped() -> tuple[nn.Module, Weight, Tensor]:
    return convolution(groups=2)


KINDS: Any = (linear, transposed, embedding, convolution, grouped)


def part(weight: Weight, **options: Any) -> LowRank:
    """A LoRA with random values in the place of those that make it the identity."""
    config = LoRAConfig(r=3, alpha=6, **options)
    made = LowRank(config, Place("weight", "layers.0.attention.q", "q", 0, weight.shape[0], weight=weight), weight)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made.eval()


def by_hand(module: nn.Module, matrix: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """The module with other values, run by torch."""
    if isinstance(module, nn.Embedding):
        return F.embedding(inputs, matrix.T)
    if isinstance(module, nn.Conv2d):
        return F.conv2d(inputs, matrix, bias, module.stride, module.padding, module.dilation, module.groups)
    return F.linear(inputs, matrix, bias)


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_adds_the_scaled_product(kind: Any, use_rslora: bool) -> None:
    module, weight, inputs = kind()
    made = part(weight, use_rslora=use_rslora)
    scale = 6 / math.sqrt(3) if use_rslora else 6 / 3
    matrix = weight.matrix + scale * (made.lora_B @ made.lora_A.flatten(1)).view_as(weight.matrix)
    wanted = by_hand(module, matrix, weight.bias, inputs)
    torch.testing.assert_close(made(module(inputs), inputs, weight), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dora_rescales_each_output(kind: Any) -> None:
    module, weight, inputs = kind()
    made = part(weight, use_dora=True)
    matrix = weight.matrix + 2 * (made.lora_B @ made.lora_A.flatten(1)).view_as(weight.matrix)
    rows = matrix.flatten(1)
    rows = made.magnitude[:, None] * rows / rows.pow(2).sum(1, keepdim=True).sqrt()
    wanted = by_hand(module, rows.view_as(matrix), weight.bias, inputs)
    torch.testing.assert_close(made(module(inputs), inputs, weight), wanted, rtol=1e-4, atol=1e-5)


def test_dora_holds_the_length_constant_in_the_backward_pass() -> None:
    module, weight, inputs = linear()
    made = part(weight, use_dora=True)
    made(module(inputs).detach(), inputs, weight).square().sum().backward()
    lengths = (weight.matrix + 2 * made.lora_B @ made.lora_A).norm(dim=1).detach()
    down, up = made.lora_A.detach().clone().requires_grad_(), made.lora_B.detach().clone().requires_grad_()
    matrix = (weight.matrix.detach() + 2 * up @ down) * (made.magnitude.detach() / lengths)[:, None]
    F.linear(inputs, matrix, weight.bias).square().sum().backward()
    torch.testing.assert_close(made.lora_A.grad, down.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.lora_B.grad, up.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"bias": True}, {"init_weights": "pissa"}])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_gives_the_same(kind: Any, options: dict[str, Any]) -> None:
    module, weight, inputs = kind()
    if "bias" in options and weight.bias is None:
        return
    made = part(weight, **options)
    adapted = made(module(inputs), inputs, weight)
    weight.put(*made.merged(weight))
    torch.testing.assert_close(module(inputs), adapted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init_weights", ["lora", "gaussian", "bert", "pissa"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_begins_as_the_identity_and_by_the_seed(init_weights: Any, use_dora: bool) -> None:
    module, weight, inputs = linear()
    config = LoRAConfig(r=3, init_weights=init_weights, init_weights_seed=1, use_dora=use_dora)
    place = Place("weight", "layers.0.attention.q", "q", 0, 5, weight=weight)
    one, other = (LowRank(config, place, weight) for _ in range(2))
    assert torch.equal(one.lora_A, other.lora_A)
    torch.testing.assert_close(one(module(inputs), inputs, weight), module(inputs), rtol=1e-5, atol=1e-6)


def test_pissa_begins_with_the_main_components_and_leaves_the_base_alone() -> None:
    module, weight, _ = linear()
    before = module.weight.detach().clone()
    place = Place("weight", "a", "q", 0, 5, weight=weight)
    made = LowRank(LoRAConfig(r=2, alpha=6, init_weights="pissa"), place, weight)
    values = torch.linalg.svdvals(3 * made.lora_B @ made.lora_A)
    torch.testing.assert_close(values[:2], torch.linalg.svdvals(before)[:2])
    assert values[2:].abs().max() < 1e-5
    assert torch.equal(module.weight, before)
    assert {"lora_A", "lora_B", "lora_A0", "lora_B0"} == made.state_dict().keys()


def test_part_of_a_fused_weight_changes_its_rows_alone() -> None:
    module, whole, inputs = linear()
    rows = torch.tensor([4, 1, 2])
    weight = PartOfWeight(whole, lambda: rows)
    made = part(weight)
    output = module(inputs)
    adapted = weight.replace(output, made(weight.select(output), inputs, weight))
    matrix = module.weight.detach().clone()
    matrix[rows] += 2 * (made.lora_B @ made.lora_A).detach()
    torch.testing.assert_close(adapted, F.linear(inputs, matrix, module.bias))
    weight.put(*made.merged(weight))
    torch.testing.assert_close(module.weight, matrix)


def test_gate_is_the_mean_over_positions() -> None:
    module, weight, inputs = linear()
    made = part(weight, use_gating=True)
    update = 2 * inputs @ made.lora_A.T @ made.lora_B.T
    gate = torch.sigmoid(made.gate(inputs)).mean(1, keepdim=True)
    torch.testing.assert_close(made(module(inputs), inputs, weight), module(inputs) + gate * update)
    with pytest.raises(ConfigError, match="gate depends on the input"):
        made.merged(weight)


def test_dropout_acts_in_training_alone() -> None:
    module, weight, inputs = linear()
    made = part(weight, dropout=0.5)
    plain = made(module(inputs), inputs, weight)
    assert torch.equal(plain, made(module(inputs), inputs, weight))
    made.train()
    assert not torch.equal(plain, made(module(inputs), inputs, weight))


def test_half_precision_base_keeps_its_type() -> None:
    module, weight, inputs = linear()
    made = part(weight)
    module.to(torch.bfloat16)
    inputs = inputs.to(torch.bfloat16)
    adapted = made(module(inputs), inputs, weight)
    assert adapted.dtype == torch.bfloat16 and made.lora_A.dtype == torch.float32


def test_ranks_and_scales_by_pattern() -> None:
    config = LoRAConfig(
        r=8, alpha=8, rank_pattern={"q": 2, r"layer\.1\..*key": 3}, alpha_pattern={"q": 10, "value": 24}
    )

    def place(role: str, path: str) -> Place:
        return Place("weight", "", role, 0, 4, path=path)

    found = [
        (config.rank(one), config.scaling(one))
        for one in (
            place("q", "encoder.layer.0.query"),
            place("k", "encoder.layer.1.self.key"),
            place("k", "encoder.layer.0.self.key"),
            place("v", "encoder.layer.1.self.value"),
        )
    ]
    assert found == [(2, 5.0), (3, 8 / 3), (8, 1.0), (8, 3.0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"r": 0}, "r must be whole and above 0"),
        ({"rank_pattern": {"q": 2.5}}, "r must be whole"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"attn_matrices": ("q", "x")}, "attn_matrices must be some of q, k, v and o"),
        ({"init_weights": "zero"}, "init_weights must be lora, gaussian, bert, pissa"),
        ({"target_modules": "layer.[0"}, "is no regular expression"),
        ({"use_dora": True, "use_gating": True}, "use_gating must be False with use_dora"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LoRAConfig(**options)


def test_a_rank_above_the_weight_is_refused() -> None:
    _, weight, _ = linear()
    with pytest.raises(ConfigError, match=r"layers.0.attention.q: r is 6, above the 5 of the weight \(5, 6\)"):
        LowRank(LoRAConfig(r=6), Place("weight", "layers.0.attention.q", "q", 0, 5, weight=weight), weight)


def test_written_as_text() -> None:
    config = load_config("lora[r=4, alpha=16, target_modules=['q_proj', 'down']]")
    assert config == LoRAConfig(r=4, alpha=16, target_modules=("q_proj", "down"))
    assert load_config(config.to_dict()) == config
