"""Compacter: the maps are sums of Kronecker products, what is shared is saved once, and is trained by every layer."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapterhub
import tiny
from adapterhub.errors import ConfigError
from adapterhub.methods import load_config
from adapterhub.methods.base import Place
from adapterhub.methods.bottleneck import CompacterPlusPlusConfig
from adapterhub.methods.phm import PHMLinear

PLACE = Place("sublayer", "layers.0.feed_forward", "feed_forward", 0, 16)


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_maps_are_sums_of_kronecker_products(
    low_rank: bool, shared_blocks: bool, shared_rule: bool, low_rank_rule: bool, n: int, rank: int
) -> None:
    config = CompacterPlusPlusConfig(
        reduction_factor=2,
        phm_dim=n,
        phm_rank=rank,
        factorized_phm_W=low_rank,
        shared_W_phm=shared_blocks,
        shared_phm_rule=shared_rule,
        factorized_phm_rule=low_rank_rule,
    )
    made = config.modules([PLACE])
    part: Any = made.parts[PLACE.name]
    everything = torch.nn.ModuleList([part, *([made.shared] if made.shared is not None else [])])
    for parameter in everything.parameters():
        torch.nn.init.normal_(parameter)
    for which, linear in (("down", part.down_proj), ("up", part.up_proj)):
        assert isinstance(linear, PHMLinear)
        rule_at: Any = made.shared if shared_rule else linear
        rule = rule_at.phm_rule_left @ rule_at.phm_rule_right if low_rank_rule else rule_at.phm_rule
        blocks_at: Any = getattr(made.shared, which) if shared_blocks else linear
        blocks = blocks_at.W_left @ blocks_at.W_right if low_rank else blocks_at.W
        matrix = sum(torch.kron(rule[i], blocks[i]) for i in range(n))
        values = torch.randn(2, 3, matrix.shape[0])
        torch.testing.assert_close(linear(values), values @ matrix + linear.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["compacter", "compacter++", "compacter++[shared_W_phm=True]"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_on_a_model_from_the_identity_to_saved(tmp_path: Any, family: str, method: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    inputs = tiny.inputs(family)
    name, _, options = method.rstrip("]").partition("[")
    options = ", ".join(filter(None, (options, "reduction_factor=4")))
    with torch.no_grad():
        bare = model(**inputs).last_hidden_state
    model.add_adapter("a", config=f"{name}[{options}]")
    model.train_adapter("a")
    model.eval()
    torch.testing.assert_close(model(**inputs).last_hidden_state, bare, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        for parameter in model.adapters["a"].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    output = model(**inputs).last_hidden_state
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.adapters["a"].parameters())
    keys = list(model.adapters["a"].state_dict())
    assert sum("phm_rule" in key for key in keys) == 1
    assert sum("W_left" in key for key in keys) == (
        2 if "shared_W" in method else 2 * len(model.adapters["a"].site_names)
    )
    model.save_adapter(tmp_path, "a")
    model.load_adapter(tmp_path, load_as="b", set_active=True)
    with torch.no_grad():
        assert torch.equal(model(**inputs).last_hidden_state, output)


def test_it_is_small() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    for name in ("seq_bn", "compacter++"):
        model.add_adapter(name, config=f"{name}[reduction_factor=4]")
    sizes = {name: sum(p.numel() for p in adapter.parameters()) for name, adapter in model.adapters.items()}
    assert sizes["compacter++"] == 4**3 + 2 * (4 * (8 + 2) + 8 + 4 * (2 + 8) + 32)
    assert sizes["compacter++"] < sizes["seq_bn"] / 3


def test_a_rule_may_be_left_untrained() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="compacter++[reduction_factor=4, learn_phm=False]")
    model.train_adapter("a")
    trained = {path for path, parameter in model.adapters["a"].named_parameters() if parameter.requires_grad}
    assert not any("phm_rule" in path for path in trained) and trained


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("phm_dim=0", "phm_dim"),
        ("phm_rank=0", "phm_rank"),
        ("phm_c_init=zero", "phm_c_init"),
        ("hypercomplex_nonlinearity=relu", "hypercomplex_nonlinearity"),
    ],
)
def test_values_out_of_range_are_refused(options: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(f"compacter[{options}]")


def test_sizes_that_do_not_divide_are_refused() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    with pytest.raises(ConfigError, match=r"phm_dim is 5.*32 and 8"):
        model.add_adapter("a", config="compacter[reduction_factor=4, phm_dim=5]")
    with pytest.raises(ConfigError, match="one width"):
        model.add_adapter("a", config={"method": "bottleneck", "phm_layer": True, "shared_W_phm": True,
                                       "reduction_factor": {"0": 4, "default": 2}})  # fmt: skip
    assert not model.adapters
