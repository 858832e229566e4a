"""MTL-LoRA against its equation, written out with plain matrices."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterhub.engine.weights import ConvolutionWeight, LinearWeight
from adapterhub.errors import ConfigError
from adapterhub.methods import Place, Weight, load_config
from adapterhub.methods.mtl_lora import MTLLoRAConfig, TaskLowRank

MATRICES = ("singular_values", "linear")


def part(weight: Weight, shaken: bool = True, **options: Any) -> TaskLowRank:
    config = MTLLoRAConfig(**({"r": 3, "alpha": 6, "n_up_projection": 4, "weights_sharpness": 0.5} | options))
    made = TaskLowRank(config, Place("weight", "layers.0.attention.q", "q", 0, weight.shape[0], weight=weight), weight)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter) if shaken else 0)
    return made.eval()


def change(made: TaskLowRank, sharpness: float = 0.5) -> Tensor:
    """s (sum p_i B_i) T A, term by term."""
    shares = (made.up_weights / sharpness).exp()
    matrix = made.task_matrix if made.task_matrix.dim() == 2 else torch.diag(made.task_matrix)
    terms = [share / shares.sum() * up @ matrix for share, up in zip(shares, made.lora_B, strict=True)]
    return 2 * sum(terms) @ made.lora_A.flatten(1)


@pytest.mark.parametrize("kind", MATRICES)
def test_is_the_equation(kind: str) -> None:
    module = nn.Linear(6, 5)
    weight, inputs = LinearWeight(module), torch.randn(2, 3, 6)
    made = part(weight, task_specific_matrix_type=kind)
    wanted = inputs @ (module.weight + change(made)).T + module.bias
    torch.testing.assert_close(made(module(inputs), inputs, weight), wanted)


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"bias": True}])
def test_merged_gives_the_same(kind: str, options: dict[str, Any]) -> None:
    for module, inputs in (
        (nn.Linear(6, 5), torch.randn(2, 3, 6)),
        (nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 7)),
    ):
        weight = LinearWeight(module) if isinstance(module, nn.Linear) else ConvolutionWeight(module)
        made = part(weight, task_specific_matrix_type=kind, **options)
        adapted = made(module(inputs), inputs, weight)
        weight.put(*made.merged(weight))
        torch.testing.assert_close(module(inputs), adapted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MATRICES)
def test_begins_as_the_identity_and_by_the_seed(kind: str) -> None:
    module = nn.Linear(6, 5)
    weight, inputs = LinearWeight(module), torch.randn(2, 3, 6)
    one, other = (part(weight, False, task_specific_matrix_type=kind, init_weights_seed=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(one.task_matrix, torch.ones(3) if kind == "singular_values" else torch.eye(3))
    assert one.up_weights.abs().max() <= 0.5 < 2 * one.up_weights.abs().max()  # uniform within 1 / sqrt(4)
    torch.testing.assert_close(one(module(inputs), inputs, weight), module(inputs))


def test_up_projections_come_apart_in_training() -> None:
    """With equal weights all of them would get one and the same gradient, for ever."""
    module = nn.Linear(6, 5)
    weight, inputs = LinearWeight(module), torch.randn(8, 6)
    made = part(weight, shaken=False, n_up_projection=2)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        made(module(inputs).detach(), inputs, weight).square().sum().backward()
        optimizer.step()
    assert (made.lora_B[0] - made.lora_B[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_up_projection": 0}, "n_up_projection must be whole and above 0"),
        ({"task_specific_matrix_type": "full"}, "task_specific_matrix_type must be singular_values or linear"),
        ({"weights_sharpness": 0}, "weights_sharpness must be above 0"),
        ({"init_weights": "pissa"}, "init_weights must be lora, gaussian or bert"),
        ({"r": 0}, "r must be whole"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MTLLoRAConfig(**options)


def test_written_as_text() -> None:
    config = load_config("mtl_lora[r=4, n_up_projection=3, task_specific_matrix_type=linear]")
    assert config == MTLLoRAConfig(r=4, n_up_projection=3, task_specific_matrix_type="linear")
    assert load_config(config.to_dict()) == config
