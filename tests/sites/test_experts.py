"""Experts of every layout that transformers knows, against a loop over tokens and experts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.integrations.moe import use_experts_implementation

from adapterhub.sites import experts, handled

LAYOUTS: tuple[dict[str, bool], ...] = (
    {},
    {"has_gate": False},
    {"is_transposed": True},
    {"has_bias": True},
    {"has_post_expert_norm": True},
    {"is_transposed": True, "has_bias": True, "has_gate": False},
)


def build(width: int = 6, inner: int = 5, **layout: bool) -> Any:
    """A module of three experts; ``forward`` is what runs when nothing else is asked for."""

    @use_experts_implementation(**layout)
    class Experts(nn.Module):
        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__()
            self.num_experts = 3
            self.act_fn = nn.SiLU()
            self.post_expert_norm = nn.LayerNorm(width)
            first = "gate_up_proj" if layout.get("has_gate", True) else "up_proj"
            outer = 2 * inner if layout.get("has_gate", True) else inner
            for name, out, read in ((first, outer, width), ("down_proj", width, inner)):
                shape = (3, read, out) if layout.get("is_transposed") else (3, out, read)
                setattr(self, name, nn.Parameter(torch.randn(shape)))
                setattr(self, f"{name}_bias", nn.Parameter(torch.randn(3, out)))

        def forward(self, hidden_states: Tensor, index: Tensor, weights: Tensor) -> Tensor:
            result = torch.zeros_like(hidden_states)
            for token, state in enumerate(hidden_states):
                for expert, share in zip(index[token], weights[token], strict=True):
                    result[token] += share * self._one(state, expert)
            return result

        def _one(self, state: Tensor, expert: Tensor) -> Tensor:
            for name in ("gate_up_proj" if self.has_gate else "up_proj", "down_proj"):
                matrix = getattr(self, name)[expert]
                state = state @ (matrix if self.is_transposed else matrix.T)
                state = state + (getattr(self, f"{name}_bias")[expert] if self.has_bias else 0)
                if name != "down_proj":
                    state = self._apply_gate(state) if self.has_gate else self.act_fn(state)
            return self.post_expert_norm(state) if self.has_post_expert_norm else state

    torch.manual_seed(0)
    return Experts(PretrainedConfig(experts_implementation="eager"))


def routed(tokens: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    index = torch.stack([torch.randperm(3)[:2] for _ in range(tokens)])
    index[index == 1] = 0  # one expert that nothing goes to
    return torch.randn(tokens, 6), index, torch.rand(tokens, 2)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: ",".join(layout) or "plain")
@pytest.mark.parametrize("sizes", [{}, {"inner": 8}], ids=["odd", "aligned"])
def test_a_change_comes_after_each_weight(layout: dict[str, bool], sizes: dict[str, int]) -> None:
    module, given = build(**sizes, **layout), routed()
    names = [name for name, _ in experts.weights(module)]
    assert names == ["gate_up_proj" if layout.get("has_gate", True) else "up_proj", "down_proj"]
    wanted, config = module(*given), module.config
    changes = {name: torch.randn_like(getattr(module, name)) for name in names}

    def change(name: str, output: Tensor, inputs: Tensor, chosen: Tensor) -> Tensor:
        matrices = changes[name][chosen]
        return output + torch.einsum("ti,tio->to" if module.is_transposed else "ti,toi->to", inputs, matrices)

    experts.install(module, lambda: None)
    assert torch.equal(module(*given), wanted)
    handled.remove(module)
    experts.install(module, lambda: lambda name, output, inputs, chosen: output)
    torch.testing.assert_close(module(*given), wanted)
    handled.remove(module)
    experts.install(module, lambda: change)
    found = module(*given)
    handled.remove(module)
    assert module.config is config
    with torch.no_grad():
        for name in names:
            getattr(module, name).add_(changes[name])
    torch.testing.assert_close(found, module(*given), rtol=1e-4, atol=1e-5)
    assert (found - wanted).abs().max() > 0.1


def test_a_handler_that_is_removed_meanwhile_is_not_missed() -> None:
    """Another thread may remove it between the question for the function and its call."""
    module, given = build(), routed()
    assert torch.equal(experts.experts_forward(module, *given), module(*given))


def test_other_modules_have_none() -> None:
    assert not list(experts.weights(nn.Linear(2, 2)))
    module = build()
    module._is_expert_parallel = True
    assert not list(experts.weights(module))
    module = build()
    module.down_proj = nn.Parameter(module.down_proj.detach().to(torch.float8_e4m3fn), requires_grad=False)
    assert [name for name, _ in experts.weights(module)] == ["gate_up_proj"]
