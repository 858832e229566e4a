"""Bottleneck adapters against their equations written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from adapterhub.errors import ConfigError
from adapterhub.methods.base import OwnNorm, Place
from adapterhub.methods.bottleneck import (
    Bottleneck,
    BottleneckConfig,
    Houlsby2019Config,
    ParBnConfig,
    SeqBnConfig,
)

WIDTH = 12
PLACE = Place("sublayer", "layers.0.feed_forward", "feed_forward", 0, WIDTH)


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, WIDTH, generator=generator), torch.randn(2, 5, WIDTH, generator=generator)


def norm(seed: int = 3) -> nn.LayerNorm:
    made = nn.LayerNorm(WIDTH)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(made.weight, generator=generator)
    nn.init.normal_(made.bias, generator=generator)
    return made


def build(config: BottleneckConfig) -> Bottleneck:
    part = config.build(PLACE)
    assert isinstance(part, Bottleneck)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_(generator=generator)
    return part.eval()


def mlp(part: Bottleneck, inputs: torch.Tensor) -> torch.Tensor:
    down = F.relu(inputs @ part.down_proj.weight.T + part.down_proj.bias)
    return down @ part.up_proj.weight.T + part.up_proj.bias


def test_pfeiffer_reads_the_normed_sum_and_keeps_the_output_as_residual() -> None:
    (h, x), ln, part = tensors(), norm(), build(SeqBnConfig(reduction_factor=4))
    torch.testing.assert_close(part(h, x, ln), h + mlp(part, ln(h + x)))
    torch.testing.assert_close(part(h, x, None), h + mlp(part, h + x))


def test_houlsby_reads_the_output() -> None:
    (h, x), part = tensors(), build(BottleneckConfig(reduction_factor=4))
    torch.testing.assert_close(part(h, x, norm()), h + mlp(part, h))


def test_parallel_reads_the_residual_stream_and_is_scaled() -> None:
    (h, x), part = tensors(), build(ParBnConfig(non_linearity="relu"))
    torch.testing.assert_close(part(h, x, norm()), h + 4 * mlp(part, x))


@pytest.mark.parametrize(("choice", "expected"), [(True, "h"), (False, "normed"), ("post_add", "sum")])
def test_residual_choices(choice: bool | str, expected: str) -> None:
    (h, x), ln = tensors(), norm()
    part = build(SeqBnConfig(residual_before_ln=choice))  # type: ignore[arg-type]
    residual = {"h": h, "normed": ln(h + x), "sum": h + x}[expected]
    torch.testing.assert_close(part(h, x, ln), residual + mlp(part, ln(h + x)))
    without = build(BottleneckConfig(residual_before_ln=choice))  # type: ignore[arg-type]
    torch.testing.assert_close(without(h, x, ln), h + mlp(without, h))


def test_own_norms_and_the_order_of_the_residual() -> None:
    h, x = tensors()
    before = build(BottleneckConfig(ln_before=True))
    assert before.norm_before is not None
    torch.testing.assert_close(before(h, x, None), h + mlp(before, before.norm_before(h)))
    after = build(BottleneckConfig(ln_after=True))
    assert after.norm_after is not None
    torch.testing.assert_close(after(h, x, None), h + after.norm_after(mlp(after, h)))
    inside = build(BottleneckConfig(ln_after=True, adapter_residual_before_ln=True))
    assert inside.norm_after is not None
    torch.testing.assert_close(inside(h, x, None), inside.norm_after(h + mlp(inside, h)))


@pytest.mark.parametrize(("scaling", "shape"), [("learned", (1,)), ("channel", (WIDTH,))])
def test_learned_scaling(scaling: str, shape: tuple[int]) -> None:
    (h, x), config = tensors(), BottleneckConfig(scaling=scaling)  # type: ignore[arg-type]
    fresh = config.build(PLACE)
    assert isinstance(fresh, Bottleneck)
    assert isinstance(fresh.scaling, nn.Parameter)
    assert torch.equal(fresh.scaling, torch.ones(shape))
    part = build(config)
    torch.testing.assert_close(part(h, x, None), h + mlp(part, h) * part.scaling)


def test_gate_is_one_number_a_row() -> None:
    (h, x), part = tensors(), build(BottleneckConfig(use_gating=True))
    assert part.gate is not None
    gate = torch.sigmoid(h @ part.gate.weight.T + part.gate.bias).mean(dim=1, keepdim=True)
    torch.testing.assert_close(part(h, x, None), h + gate * mlp(part, h))


def test_dropout_and_stochastic_depth_act_in_training_alone() -> None:
    h, x = tensors()
    part = build(BottleneckConfig(stochastic_depth=0.5))
    still = part(h, x, None)
    part.train()
    torch.manual_seed(0)
    rows = [part(h, x, None)[row] - h[row] for _ in range(40) for row in (0, 1)]
    full = [2 * (still[row] - h[row]) for _ in range(40) for row in (0, 1)]
    dropped = [bool((row == 0).all()) for row in rows]
    assert 20 < sum(dropped) < 60
    for row, whole, gone in zip(rows, full, dropped, strict=True):
        torch.testing.assert_close(row, torch.zeros_like(row) if gone else whole, rtol=1e-4, atol=1e-4)
    dropping = build(BottleneckConfig(dropout=0.5))
    assert torch.equal(dropping(h, x, None), dropping(h, x, None))
    dropping.train()
    assert not torch.equal(dropping(h, x, None), dropping(h, x, None))


def test_initialisations() -> None:
    place = Place("sublayer", "s", "feed_forward", 0, 512)
    torch.manual_seed(0)
    bert = BottleneckConfig(reduction_factor=2).build(place)
    houlsby = BottleneckConfig(reduction_factor=2, init_weights="houlsby").build(place)
    mam = BottleneckConfig(reduction_factor=2, init_weights="mam_adapter").build(place)
    assert isinstance(bert, Bottleneck) and isinstance(houlsby, Bottleneck) and isinstance(mam, Bottleneck)
    for weight in (bert.down_proj.weight, bert.up_proj.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    for weight in (houlsby.down_proj.weight, houlsby.up_proj.weight):
        assert weight.abs().max() <= 0.02
        assert weight.std().item() == pytest.approx(0.01 * 0.8796, rel=0.03)  # a normal cut at two deviations
    assert mam.down_proj.weight.abs().max() <= math.sqrt(1 / 512)
    assert not mam.up_proj.weight.any()
    assert not any(part.bias.any() for m in (bert, houlsby, mam) for part in (m.down_proj, m.up_proj))


def test_a_seed_gives_the_same_values_and_different_ones_to_each_layer() -> None:
    config = SeqBnConfig(init_weights_seed=7)
    one, again = config.build(PLACE), config.build(PLACE)
    other = config.build(Place("sublayer", "layers.1.feed_forward", "feed_forward", 1, WIDTH))
    assert isinstance(one, Bottleneck) and isinstance(again, Bottleneck) and isinstance(other, Bottleneck)
    assert torch.equal(one.down_proj.weight, again.down_proj.weight)
    assert not torch.equal(one.down_proj.weight, other.down_proj.weight)


def test_places() -> None:
    attention = Place("sublayer", "layers.1.attention", "attention", 1, WIDTH)
    assert SeqBnConfig().build(attention) is None
    assert isinstance(BottleneckConfig(mh_adapter=True).build(attention), Bottleneck)
    assert SeqBnConfig(leave_out=[0]).build(PLACE) is None  # type: ignore[arg-type]
    ln = norm()
    copied = Houlsby2019Config().build(Place("norm", "layers.0.norms.0", "norm", 0, WIDTH, ln))
    assert isinstance(copied, OwnNorm)
    assert copied.norm.weight is not ln.weight
    assert torch.equal(copied.norm.weight, ln.weight)
    assert SeqBnConfig().build(Place("norm", "n", "norm", 0, WIDTH, ln)) is None


def test_a_copied_norm_brings_no_hooks() -> None:
    ln = norm()
    ln.register_forward_hook(lambda module, args, output: output * 0)
    copied = Houlsby2019Config().build(Place("norm", "n", "norm", 0, WIDTH, ln))
    assert copied is not None
    assert not copied._forward_hooks
    assert copied(tensors()[0]).any()
    assert ln._forward_hooks


@given(width=st.integers(1, 2000), factor=st.floats(0.1, 4000))
def test_bottleneck_size_is_the_quotient_rounded_down_and_at_least_one(width: int, factor: float) -> None:
    config = BottleneckConfig(reduction_factor=factor)
    size = config.bottleneck_size(Place("sublayer", "s", "feed_forward", 0, width))
    assert size == max(1, math.floor(width // factor))


def test_reduction_factor_by_layer() -> None:
    config = BottleneckConfig(reduction_factor={"0": 4, "default": 2})
    assert config.bottleneck_size(PLACE) == 3
    assert config.bottleneck_size(Place("sublayer", "s", "feed_forward", 5, WIDTH)) == 6
    with pytest.raises(ConfigError, match="no entry for layer 0 and no 'default'"):
        BottleneckConfig(reduction_factor={"3": 4}).bottleneck_size(PLACE)


@pytest.mark.parametrize(
    "bad",
    [
        {"non_linearity": "rleu"},
        {"init_weights": "xavier"},
        {"scaling": "big"},
        {"residual_before_ln": "after"},
        {"dropout": 1.0},
        {"stochastic_depth": -0.1},
        {"reduction_factor": 0},
        {"reduction_factor": float("nan")},
        {"output_adapter": False},
    ],
)
def test_values_out_of_range_are_refused_by_name(bad: dict) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(bad.values()))).split(".")[0]):
        BottleneckConfig(**bad)


@settings(max_examples=25, deadline=None)
@given(dtype=st.sampled_from([torch.bfloat16, torch.float16]), parallel=st.booleans(), after=st.booleans())
def test_a_half_precision_base_gets_its_own_type_back(dtype: torch.dtype, parallel: bool, after: bool) -> None:
    h, x = (tensor.to(dtype) for tensor in tensors())
    part = build(BottleneckConfig(is_parallel=parallel, ln_after=after))
    out = part(h, x, None)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), part(h.float(), x.float(), None), rtol=2e-2, atol=2e-2)
