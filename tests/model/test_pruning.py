"""Smaller fusions: the ranking is the mean attention, and what is pruned is as if no one attended to it."""

from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, Fuse, Stack
from adapterhub.errors import AdapterExistsError, AdapterNotFoundError, CompositionError, DataError

CONFIGS = {
    "a": "seq_bn[reduction_factor=4]",
    "b": "seq_bn[reduction_factor=8]",
    "c": "seq_bn[reduction_factor=4, leave_out=[0]]",
}


def build(family: str = "bert", config: str = "dynamic") -> Any:
    torch.manual_seed(0)
    model: Any = adapterhub.init(tiny.model(family))
    for name, method in CONFIGS.items():
        model.add_adapter(name, config=method)
    model.add_adapter_fusion(["a", "b", "c"], config)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.fusions.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def output(model: Any, setup: Any, family: str = "bert") -> Tensor:
    with torch.no_grad(), AdapterSetup(setup):
        return model(**tiny.inputs(family)).last_hidden_state


def mask(model: Any, fusion: str, column: int) -> None:
    """Have no one attend to a column of the attention: the layers of a fusion written out, with a score of -inf."""
    for site in model.fusions[fusion].site_names:
        layer = model.fusions[fusion].at(site)

        def without(state: Tensor, query: Tensor, changes: Tensor, layer: Any = layer) -> tuple[Tensor, Tensor]:
            scores = (layer.key(changes) * layer.query(query).unsqueeze(-2)).sum(-1)
            scores[..., column] = -torch.inf
            attention = scores.softmax(-1)
            values = changes if layer.value is None else layer.value(changes)
            return (attention.unsqueeze(-1) * values).sum(-2), attention

        layer.forward = without


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
@pytest.mark.parametrize("config", ["dynamic", "static"])
def test_what_is_pruned_is_as_if_no_one_attended_to_it(family: str, config: str) -> None:
    model = build(family, config)
    small = model.prune_adapter_fusion(["a", "b", "c"], keep=["c", "a"])
    assert small == Fuse("a", "c") and set(model.fusions) == {"a,b,c", "a,c"}
    found = output(model, small, family)
    assert not torch.allclose(found, output(model, Fuse("a", "b", "c"), family), atol=1e-3)
    mask(model, "a,b,c", 1)
    torch.testing.assert_close(found, output(model, Fuse("a", "b", "c"), family), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "bart"])
def test_the_best_are_those_with_the_largest_mean_attention(family: str) -> None:
    model = build(family)
    batches = [tiny.inputs(family, batch=3, seed=1), tiny.inputs(family, batch=2, length=5, seed=2)]
    means = []
    for site in model.fusions["a,b,c"].site_names:
        layer = next(place.layer for place in model.engine.places if place.name == site)
        rows = []
        for batch in batches:
            with torch.no_grad(), AdapterSetup(Fuse("a", "b", "c")):
                given = model(**batch, output_adapter_fusion_attentions=True).adapter_fusion_attentions["a,b,c"]
            attention = given[layer]["output_adapter"]
            decoder = site.startswith("decoder")
            real = torch.ones(attention.shape[:2]) if decoder else batch["attention_mask"]
            rows += [attention[row, column] for row, column in real.nonzero().tolist()]
        mean = torch.stack(rows).mean(0)
        means.append(mean if len(mean) == 3 else torch.cat((mean, torch.zeros(1))))  # c leaves out the first layer
    wanted = dict(zip("abc", torch.stack(means).mean(0).tolist(), strict=True))
    model.train()
    ranking = model.rank_adapter_fusion("a,b,c", batches)
    assert model.training
    assert ranking == pytest.approx(wanted) and sum(ranking.values()) == pytest.approx(1)
    assert list(ranking.values()) == sorted(ranking.values(), reverse=True)
    best = list(ranking)[:2]
    small = model.prune_adapter_fusion(["a", "b", "c"], keep=2, data=batches, name="best", set_active=True)
    assert sorted(small.names()) == sorted(best) and small.fusion == "best" and model.active_adapters == small


def test_a_fusion_over_blocks_and_named_ones() -> None:
    model = build()
    whole = Fuse(Stack("a", "b"), "c", name="mine")
    model.add_adapter_fusion(whole)
    ranking = model.rank_adapter_fusion(whole, [tiny.inputs("bert")])
    assert set(ranking) == {Stack("a", "b"), "c"}
    small = model.prune_adapter_fusion(whole, keep=[Stack("a", "b")], name="first")
    assert small == Fuse(Stack("a", "b"), name="first") and model.fusions["first"].adapter_names == ("a", "b")
    output(model, small)


def test_the_smaller_one_trains_by_itself_and_is_saved(tmp_path: Any) -> None:
    model = build()
    before = {key: value.clone() for key, value in model.fusions["a,b,c"].state_dict().items()}
    small = model.prune_adapter_fusion("a,b,c", keep=["a", "b"])
    model.train_adapter_fusion(small)
    with torch.no_grad():
        for parameter in model.fusions["a,b"].parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in model.fusions["a,b,c"].state_dict().items())
    model.save_adapter_setup(tmp_path, small)
    other = adapterhub.init(tiny.model("bert"))
    other.load_adapter_setup(tmp_path)
    torch.testing.assert_close(output(other.eval(), small), output(model.eval(), small))


def test_another_last_adapter_of_another_kind_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = build()
    model.prune_adapter_fusion("a,b,c", keep=["a", "c"])
    assert not caplog.records
    model.prune_adapter_fusion("a,b,c", keep=["a"])
    assert "asks with what its last adapter reads: that was 'c', and is 'a'" in caplog.text


@pytest.mark.parametrize(
    ("fusion", "options", "error", "said"),
    [
        ("a,b", {"keep": 1}, AdapterNotFoundError, "no fusion named 'a,b'"),
        (Fuse("b", "a", name="a,b,c"), {"keep": 1}, AdapterNotFoundError, "is over a, b, c, not over"),
        ("a,b,c", {"keep": 0, "data": True}, CompositionError, "1 to 3 can be kept, not 0"),
        ("a,b,c", {"keep": 4, "data": True}, CompositionError, "not 4"),
        ("a,b,c", {"keep": True, "data": True}, CompositionError, "not True"),
        ("a,b,c", {"keep": ["d"]}, CompositionError, r"is not over \['d'\]: keep some of \['a', 'b', 'c'\]"),
        ("a,b,c", {"keep": []}, CompositionError, "keep some of"),
        ("a,b,c", {"keep": 2}, DataError, "give it data"),
        ("a,b,c", {"keep": ["a", "b", "c"]}, AdapterExistsError, "there is a fusion 'a,b,c' already"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(fusion: Any, options: Any, error: Any, said: str) -> None:
    model = build()
    given = options | ({"data": [tiny.inputs("bert")]} if "data" in options else {})
    with pytest.raises(error, match=said):
        model.prune_adapter_fusion(fusion, **given)
    assert set(model.fusions) == {"a,b,c"} and model.active_adapters is None
