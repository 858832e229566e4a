"""Arithmetic on adapters, against the papers' equations written out, and against what the results compute."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import adapterhub
import tiny
from adapterhub.composition import Average
from adapterhub.errors import AdapterExistsError, AdapterNotFoundError, ConfigError, HeadError, MergeError
from adapterhub.model.arithmetic import _dropped, _elected, _trimmed

METHODS = (
    "double_seq_bn[reduction_factor=4]",
    "lora[r=3]",
    "ia3",
    "vera[r=4, init_weights_seed=1]",
    "ln_tuning",
    "compacter[reduction_factor=4]",
    "prefix_tuning_flat[prefix_length=3]",
    "loreft",
    "seq_bn|lora[r=2]",
)


def build(config: str, count: int = 3, family: str = "bert") -> Any:
    model: Any = adapterhub.init(tiny.model(family))
    for index, name in enumerate("abc"[:count]):
        model.add_adapter(name, config=config)
        torch.manual_seed(index)
        with torch.no_grad():
            for parameter in model.adapters[name].parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def parameters(model: Any, name: str) -> dict[str, Tensor]:
    return {path: value.detach() for path, value in model.adapters[name].named_parameters()}


def output(model: Any, setup: Any, family: str = "bert") -> Tensor:
    model.set_active_adapters(setup)
    with torch.no_grad():
        return model(**tiny.inputs(family)).last_hidden_state


@pytest.mark.parametrize("config", METHODS)
def test_linear_is_the_weighted_sum_of_parameters(config: str) -> None:
    model = build(config)
    model.average_adapter("m", ["a", "b", "c"], weights=[1, 2, 1])
    model.average_adapter("n", {"a": 1.0, "b": -0.5}, normalize_weights=False, set_active=True)
    assert model.active_adapters.names() == ("n",) and model.adapters["m"].config == model.adapters["a"].config
    a, b, c, m, n = (parameters(model, name) for name in "abcmn")
    for path in a:
        torch.testing.assert_close(m[path], 0.25 * a[path] + 0.5 * b[path] + 0.25 * c[path])
        torch.testing.assert_close(n[path], a[path] - 0.5 * b[path])
    model.average_adapter("same", {"a": 1.0, "b": 0.0})
    assert torch.equal(output(model, "same"), output(model, "a"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=2, max_size=2), st.integers(1, 6))
def test_svd_gives_the_nearest_change_of_a_rank(weights: list[float], rank: int) -> None:
    model = build("lora[r=3, alpha=6]", 2)
    model.average_adapter(
        "m", ["a", "b"], weights, combine_strategy="lora_delta_w_svd", normalize_weights=False, svd_rank=rank
    )
    for site in model.adapters["a"].site_names:
        parts = {name: model.adapters[name].at(site) for name in "abm"}
        change = {name: part.scaling * (part.lora_B @ part.lora_A).detach() for name, part in parts.items()}
        wanted = weights[0] * change["a"] + weights[1] * change["b"]
        left, values, right = torch.linalg.svd(wanted)
        nearest = (left[:, :rank] * values[:rank]) @ right[:rank]
        torch.testing.assert_close(change["m"], nearest, rtol=1e-3, atol=1e-4)


def test_svd_of_full_rank_is_the_average_of_outputs() -> None:
    model = build("lora[r=3, alpha=6, attn_matrices=[q, k, v, o], bias=True]", 2, "gpt2")
    model.average_adapter("m", ["a", "b"], weights=[1, 3], combine_strategy="lora_delta_w_svd", svd_rank=6)
    wanted = output(model, Average("a", "b", weights=[1, 3]), "gpt2")
    torch.testing.assert_close(output(model, "m", "gpt2"), wanted, rtol=1e-4, atol=1e-4)


def test_negating_b_alone_negates_the_change() -> None:
    model = build("lora[r=3]", 1)
    for strategy, sign in (("lora_linear_only_negate_b", -1), ("linear", 1)):
        model.average_adapter(
            "n", ["a"], weights=[-1.0], combine_strategy=strategy, normalize_weights=False, overwrite_ok=True
        )
        for site in model.adapters["a"].site_names:
            part, own = model.adapters["n"].at(site), model.adapters["a"].at(site)
            torch.testing.assert_close(part.lora_B @ part.lora_A, sign * own.lora_B @ own.lora_A)


def test_trimming_keeps_the_largest_of_all_values() -> None:
    change = {"x": torch.tensor([3.0, -0.1, 0.5]), "y": torch.tensor([[-2.0, 0.2]])}
    trimmed = _trimmed(change, 0.4)
    assert trimmed["x"].tolist() == [3.0, 0.0, 0.0] and trimmed["y"].tolist() == [[-2.0, 0.0]]
    assert _trimmed(change, 1.0)["x"].tolist() == change["x"].tolist()


def test_election_by_hand() -> None:
    """Three values for each of four parameters: the mean of those that agree with the sign of the sum."""
    changes = [
        {"x": torch.tensor(row)} for row in ([3.0, -1.0, 0.0, 2.0], [-1.0, -2.0, 0.0, -2.0], [1.0, 4.0, 5.0, 0.0])
    ]
    assert _elected(changes, [1 / 3] * 3)["x"].tolist() == pytest.approx([2.0, 4.0, 5.0, 0.0])
    weighed = _elected(changes, [3.0, 1.0, 1.0])["x"].tolist()
    assert weighed == pytest.approx([(9 + 1) / 4, -(3 + 2) / 4, 5.0, 2.0])


@given(st.floats(0.2, 1.0))
def test_dropping_keeps_the_mean(density: float) -> None:
    change = {"x": torch.ones(20_000)}
    dropped = _dropped(change, density, torch.Generator().manual_seed(0))["x"]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert all(value in (0.0, pytest.approx(1 / density)) for value in dropped.unique().tolist())


@pytest.mark.parametrize("strategy", ["ties", "dare_linear", "dare_ties", "magnitude_prune"])
@pytest.mark.parametrize("config", METHODS)
def test_sparse_strategies_change_less_and_are_reproducible(config: str, strategy: str) -> None:
    model = build(config, 2)
    options = {"combine_strategy": strategy, "density": 0.3, "seed": 5}
    for name in "mn":
        model.average_adapter(name, ["a", "b"], **options)
    assert torch.equal(output(model, "m"), output(model, "n"))
    whole = {**options, "density": 1.0}
    model.average_adapter("whole", ["a"], **whole)
    torch.testing.assert_close(output(model, "whole"), output(model, "a"), rtol=1e-4, atol=1e-5)
    model.average_adapter("mean", ["a", "b"])
    assert not torch.equal(output(model, "m"), output(model, "mean"))


def test_neutral_values_are_kept_where_nothing_changes() -> None:
    model = build("ia3", 2)
    with torch.no_grad():
        for parameter in model.adapters["b"].parameters():
            parameter.fill_(1.0)
    model.average_adapter("m", ["a", "b"], combine_strategy="magnitude_prune", density=1.0)
    for path, value in parameters(model, "m").items():
        torch.testing.assert_close(value, 1 + (parameters(model, "a")[path] - 1) / 2)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("config", ["lora[r=3, alpha=6]", "dora[r=2]", "ia3", "lhuc", "vera[r=3]"])
def test_anything_on_weights_converts_to_lora(family: str, config: str) -> None:
    model = build(config, 1, family)
    model.convert_adapter("a", "lora", rank=32)
    torch.testing.assert_close(output(model, "lora", family), output(model, "a", family), rtol=1e-3, atol=1e-4)
    model.convert_adapter("a", "small", rank=1)
    assert model.adapters["small"].config.r == 1


def test_heads_average() -> None:
    model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config("bert"))
    for name, count in (("a", 2), ("b", 2), ("c", 3)):
        model.add_classification_head(name, num_labels=count)
    model.average_head("m", ["a", "b"], weights=[1, 3])
    states = {name: head.state_dict() for name, head in model.heads.items()}
    for path in states["a"]:
        torch.testing.assert_close(states["m"][path], 0.25 * states["a"][path] + 0.75 * states["b"][path])
    before = list(model.heads)
    for wrong, error in (
        (lambda: model.average_head("n", ["a", "c"]), HeadError),
        (lambda: model.average_head("n", ["a", "x"]), HeadError),
        (lambda: model.average_head("a", ["a", "b"]), AdapterExistsError),
        (lambda: model.average_head("n", ["a", "b"], weights=[1, -1]), ConfigError),
    ):
        with pytest.raises(error):
            wrong()
        assert list(model.heads) == before


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.average_adapter("n", ["a", "x"]), AdapterNotFoundError),
        (lambda m: m.average_adapter("a", ["a", "b"]), AdapterExistsError),
        (lambda m: m.average_adapter("n", ["a", "b"], weights=[1]), ConfigError),
        (lambda m: m.average_adapter("n", ["a", "b"], weights=[1, -1]), ConfigError),
        (lambda m: m.average_adapter("n", {"a": 1}, weights=[1]), ConfigError),
        (lambda m: m.average_adapter("n", []), ConfigError),
        (lambda m: m.average_adapter("n", ["a", "b"], combine_strategy="magic"), ConfigError),
        (lambda m: m.average_adapter("n", ["a", "b"], combine_strategy="ties", density=0), ConfigError),
        (lambda m: m.average_adapter("n", ["a", "o"]), MergeError),
        (lambda m: m.average_adapter("n", ["a", "b"], combine_strategy="lora_delta_w_svd"), MergeError),
        (lambda m: m.average_adapter("n", ["a", "b"], combine_strategy="lora_linear_only_negate_b"), MergeError),
        (lambda m: m.convert_adapter("a", "n", rank=2), MergeError),
        (lambda m: m.convert_adapter("o", "n", rank=0), ConfigError),
        (lambda m: m.convert_adapter("o", "a", rank=2), AdapterExistsError),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(call: Any, error: type) -> None:
    model = build("seq_bn[reduction_factor=4]", 2)
    model.add_adapter("o", config="lora[r=2]")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error):
        call(model)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
