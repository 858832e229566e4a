"""Methods of few parameters, by hand on a model: VeRA, DVoRA, BitFit, layer-norm tuning, LHUC."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertModel

import adapterhub
import tiny
from adapterhub.errors import ConfigError
from adapterhub.methods import load_config


def pair(config: str) -> tuple[Any, Any, BertModel]:
    """A model with an adapter of random values, the adapter, and the bare model."""
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config=config)
    model.set_active_adapters("a")
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.adapters["a"].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, model.adapters["a"], tiny.model("bert")


def assert_same(model: Any, by_hand: BertModel) -> None:
    inputs = tiny.inputs("bert")
    with torch.no_grad():
        found, wanted = (one(**inputs).last_hidden_state for one in (model, by_hand))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def sizes(adapter: Any) -> dict[str, int]:
    return {path: parameter.numel() for path, parameter in adapter.named_parameters()}


@pytest.mark.parametrize("use_dora", [False, True])
def test_vera_trains_two_vectors_beside_shared_matrices(use_dora: bool) -> None:
    model, adapter, by_hand = pair(f"vera[r=5, output_lora=True, use_dora={use_dora}]")
    shared_a, shared_b = adapter.shared.vera_A, adapter.shared.vera_B
    assert shared_a.shape == (5, 37) and shared_b.shape == (32, 5)  # of the widest weight and the longest
    with torch.no_grad():
        for index, layer in enumerate(by_hand.encoder.layer):
            for at, module in (
                ("attention.q", layer.attention.self.query),
                ("attention.v", layer.attention.self.value),
                ("feed_forward.down", layer.output.dense),
            ):
                part = adapter.at(f"layers.{index}.{at}")
                outs, ins = module.weight.shape
                change = torch.diag(part.vera_lambda_b) @ shared_b[:outs] @ torch.diag(part.vera_lambda_d)
                weight: Tensor = module.weight + change @ shared_a[:, :ins]
                if use_dora:
                    weight = part.magnitude[:, None] * weight / weight.norm(dim=1, keepdim=True)
                module.weight.copy_(weight)
    assert_same(model, by_hand)
    per_weight = 5 + 32 + (32 if use_dora else 0)
    assert sum(sizes(adapter).values()) == 2 * 3 * per_weight  # vectors, and nothing squared


def test_vera_saves_what_is_shared_once(tmp_path: Any) -> None:
    model, adapter, _ = pair("vera[r=5, init_weights_seed=3]")
    keys = list(adapter.state_dict())
    assert sum("vera_A" in key for key in keys) == 1
    model.save_adapter(tmp_path, "a")
    model.load_adapter(tmp_path, load_as="b")
    assert torch.equal(model.adapters["b"].shared.vera_A, adapter.shared.vera_A)
    inputs = tiny.inputs("bert")
    with torch.no_grad():
        first = model(**inputs).last_hidden_state
        model.set_active_adapters("b")
        assert torch.equal(model(**inputs).last_hidden_state, first)


def test_vera_is_drawn_by_its_seed() -> None:
    one, other = (pair("vera[init_weights_seed=3]")[1].shared.vera_A for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, pair("vera[init_weights_seed=4]")[1].shared.vera_A)


def test_bitfit_moves_every_bias_and_nothing_else() -> None:
    model, adapter, by_hand = pair("bitfit")
    biases = {path: parameter for path, parameter in by_hand.named_parameters() if path.endswith("bias")}
    assert sum(sizes(adapter).values()) == sum(bias.numel() for bias in biases.values())
    with torch.no_grad():
        for norm in model.sites.norms:
            biases[f"{norm.path}.bias"].add_(adapter.at(norm.name).shift)
        for place in model.engine.places:
            if place.weight is not None and (part := adapter.at(place.name)) is not None:
                biases[f"{place.path}.bias"].add_(part.shift)
    assert_same(model, by_hand)


def test_bitfit_of_some_roles() -> None:
    _, adapter, _ = pair("bitfit[roles=[q, up]]")
    assert set(sizes(adapter)) == {
        f"layers.{index}.{at}.shift" for index in (0, 1) for at in ("attention.q", "feed_forward.up")
    }


def test_layer_norm_tuning_replaces_every_norm() -> None:
    model, adapter, by_hand = pair("ln_tuning")
    with torch.no_grad():
        for norm in model.sites.norms:
            by_hand.get_submodule(norm.path).load_state_dict(adapter.at(norm.name).norm.state_dict())
    assert_same(model, by_hand)
    assert len(sizes(adapter)) == 2 * 5


def test_lhuc_scales_hidden_units_by_twice_a_sigmoid() -> None:
    model, adapter, by_hand = pair("lhuc")
    with torch.no_grad():
        for index, layer in enumerate(by_hand.encoder.layer):
            amplitude = adapter.at(f"layers.{index}.feed_forward.down").amplitude
            layer.output.dense.weight.mul_(2 / (1 + torch.exp(-amplitude)))
    assert_same(model, by_hand)
    assert set(sizes(adapter).values()) == {37}


@pytest.mark.parametrize("method", ["vera", "bitfit", "ln_tuning", "lhuc"])
def test_layers_can_be_left_out(method: str) -> None:
    _, adapter, _ = pair(f"{method}[leave_out=[0]]")
    assert not any(site.startswith("layers.0.") for site in adapter.site_names)
    assert any(site.startswith("layers.1.") for site in adapter.site_names)


@pytest.mark.parametrize("options", ["r=0", "dropout=1", "attn_matrices=[x]", "target_modules='('"])
def test_values_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        load_config(f"vera[{options}]")
