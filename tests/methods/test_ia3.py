"""(IA)³ at the paper's positions, by hand on a model."""

import pytest
import torch
from transformers import BertModel

import adapterhub
import tiny
from adapterhub.errors import ConfigError


def test_scales_keys_values_and_what_the_last_projection_reads() -> None:
    model = tiny.model("bert")
    by_hand: BertModel = tiny.model("bert")
    adapterhub.init(model).add_adapter("a", config="ia3")
    model.set_active_adapters("a")
    adapter = model.adapters["a"]
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(mean=1.0)
        for index, layer in enumerate(by_hand.encoder.layer):
            at = f"layers.{index}"
            for role, module in (("k", layer.attention.self.key), ("v", layer.attention.self.value)):
                scale = adapter.at(f"{at}.attention.{role}").scale
                module.weight.mul_(scale[:, None])
                module.bias.mul_(scale)
            layer.output.dense.weight.mul_(adapter.at(f"{at}.feed_forward.down").scale)
        inputs = tiny.inputs("bert")
        torch.testing.assert_close(
            model(**inputs).last_hidden_state, by_hand(**inputs).last_hidden_state, rtol=1e-4, atol=1e-5
        )
    sizes = {path: parameter.numel() for path, parameter in adapter.named_parameters()}
    assert sizes == {
        f"layers.{index}.{at}.scale": size
        for index in range(2)
        for at, size in (("attention.k", 32), ("attention.v", 32), ("feed_forward.down", 37))
    }


def test_the_other_position_is_before_the_non_linearity() -> None:
    model = tiny.model("bert")
    by_hand: BertModel = tiny.model("bert")
    adapterhub.init(model).add_adapter("a", config="ia3[feed_forward=output]")
    model.set_active_adapters("a")
    with torch.no_grad():
        for index, layer in enumerate(by_hand.encoder.layer):
            scale = model.adapters["a"].at(f"layers.{index}.feed_forward.up").scale.normal_(mean=1.0)
            layer.intermediate.dense.weight.mul_(scale[:, None])
            layer.intermediate.dense.bias.mul_(scale)
        inputs = tiny.inputs("bert")
        torch.testing.assert_close(
            model(**inputs).last_hidden_state, by_hand(**inputs).last_hidden_state, rtol=1e-4, atol=1e-5
        )


def test_no_other_position_is_taken() -> None:
    with pytest.raises(ConfigError, match="feed_forward"):
        adapterhub.load_config("ia3[feed_forward=both]")
