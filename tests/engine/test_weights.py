"""Weights of classes of their own, against what those modules give; and the names of places."""

import pytest
import torch
from torch import nn
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4GroupedLinear
from transformers.models.ibert.quant_modules import QuantLinear

import adapterhub
from adapterhub.engine.weights import LinearWeight, _weight, weight_places
from adapterhub.sweep.architectures import build


def test_a_linear_map_in_groups() -> None:
    torch.manual_seed(0)
    module = DeepseekV4GroupedLinear(6, 12, n_groups=3)
    weight, _ = _weight(module)
    assert weight is not None and weight.shape == (12, 6)
    inputs, down, up = torch.randn(2, 5, 3, 6), torch.randn(2, 6), torch.randn(12, 2)
    torch.testing.assert_close(weight.apply(weight.matrix, inputs), module(inputs))
    with torch.no_grad():
        module.weight.copy_(up @ down)
    torch.testing.assert_close(weight.apply_factors(down, up, inputs), module(inputs))
    assert weight.spread(torch.arange(12)).tolist() == torch.arange(12).view(3, 4).tolist()


def test_a_linear_map_that_gives_its_scale_too() -> None:
    module = QuantLinear(6, 4)
    nn.init.normal_(module.weight)
    weight, _ = _weight(module)
    assert isinstance(weight, LinearWeight) and weight.shape == (4, 6)
    inputs, scale = torch.randn(2, 5, 6), object()
    torch.testing.assert_close(weight.select(module(inputs)), weight.apply(module.weight, inputs))
    assert weight.replace((inputs, scale), inputs * 2)[1] is scale
    assert _weight(QuantLinear(6, 4, quant_mode=True))[0] is None


@pytest.mark.parametrize("name", ["deepseek_v4", "pegasus_x", "lxmert", "higgs_audio_v2"])
def test_no_two_places_have_one_name(name: str) -> None:
    model = build(name)
    adapterhub.init(model)
    names = [place.name for place in weight_places(model, model.sites)]
    assert len(set(names)) == len(names)
