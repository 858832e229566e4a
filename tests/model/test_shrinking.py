"""Narrower bottlenecks: what is lost, what each layer keeps, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
import tiny
from adapterhub.errors import AdapterExistsError, ConfigError, DataError

BATCHES = [tiny.inputs("bert", batch=8, length=9, seed=seed) for seed in range(3)]


def model_with(config: str, family: str = "bert") -> Any:
    model = adapterhub.init(tiny.model(family)).eval()
    model.add_adapter("a", config=config, set_active=True)
    tiny.randomise(model, "a")
    return model


def output(model, name: str) -> torch.Tensor:
    model.set_active_adapters(name)
    with torch.no_grad():
        return model(**BATCHES[0]).last_hidden_state


@pytest.mark.parametrize("config", ["seq_bn[reduction_factor=2]", "double_seq_bn[reduction_factor=2]", "par_bn"])
def test_units_that_never_change_can_go(config: str) -> None:
    """Half of the units of one layer and a quarter of the other give a constant: the bias gives it without them."""
    model = model_with(config)
    with torch.no_grad():
        for site in model.adapters["a"].site_names:
            (part,) = model.adapters["a"].parts(site)
            constant = slice(0, 16, 2) if ".0." in site else slice(3, 16, 4)
            part.down_proj.weight[constant] = 0
            part.down_proj.bias[constant] = 0.7
    assert model.prune_adapter("a", 20 / 32, BATCHES, "less") == {0: 8, 1: 12}
    torch.testing.assert_close(output(model, "less"), output(model, "a"), rtol=0, atol=2e-6)
    share = model.adapters["less"].config.reduction_factor
    assert {layer: int(32 // factor) for layer, factor in share.items()} == {"0": 8, "1": 12}


def test_the_ranking_is_that_of_the_variance_of_what_units_add() -> None:
    model = model_with("seq_bn[reduction_factor=4]")
    (part,) = model.adapters["a"].parts("layers.1.feed_forward")
    seen: list[torch.Tensor] = []
    with part.up_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0])), torch.no_grad():
        for batch in BATCHES:
            model(**batch)
    added = torch.cat([one[batch["attention_mask"].bool()] for one, batch in zip(seen, BATCHES, strict=True)])
    worth = [
        (added[:, unit, None].double() * part.up_proj.weight[:, unit].double()).var(0, unbiased=False).sum()
        for unit in range(8)
    ]
    assert model.prune_adapter("a", 0.5, BATCHES, "less")
    (less,) = model.adapters["less"].parts("layers.1.feed_forward")
    kept = sorted(torch.stack(worth).argsort(descending=True)[: less.down_proj.out_features].tolist())
    assert torch.equal(less.down_proj.weight, part.down_proj.weight[kept])
    assert torch.equal(less.up_proj.weight, part.up_proj.weight[:, kept])


def test_weights_decide_without_data_and_a_layer_keeps_one_unit() -> None:
    model = model_with("seq_bn[reduction_factor=4]")
    with torch.no_grad():
        model.adapters["a"].parts("layers.0.feed_forward")[0].up_proj.weight *= 1e-3
    assert model.prune_adapter("a", 0.01) == {0: 1, 1: 1}
    again = model_with("seq_bn[reduction_factor=4]")
    with torch.no_grad():
        again.adapters["a"].parts("layers.0.feed_forward")[0].up_proj.weight *= 1e-3
    assert again.prune_adapter("a", 0.5, new_name="b") == {0: 1, 1: 7}


def test_everything_kept_is_the_same_and_is_saved(tmp_path: Path) -> None:
    model = model_with("double_seq_bn[reduction_factor=5, use_gating=True, scaling=learned]")
    before = output(model, "a")
    model.prune_adapter("a", 1.0, BATCHES)
    torch.testing.assert_close(output(model, "a"), before, rtol=0, atol=0)
    model.prune_adapter("a", 0.6, BATCHES)
    model.save_adapter(tmp_path, "a", dtype="bfloat16")
    other = adapterhub.init(tiny.model("bert")).eval()
    other.load_adapter(tmp_path)
    torch.testing.assert_close(output(other, "a"), output(model, "a"), rtol=0, atol=0.05)


def test_layers_of_both_towers_have_numbers_of_their_own() -> None:
    model = model_with("seq_bn[reduction_factor=4]", "bart")
    batches = [tiny.inputs("bart")]
    assert sorted(model.prune_adapter("a", 0.5, batches)) == [0, 1, 2, 3]


def test_what_is_refused() -> None:
    model = model_with("seq_bn[reduction_factor=4]")
    model.add_adapter("lora", config="lora")
    model.add_adapter("blocks", config="compacter[reduction_factor=4]")
    for name in ("lora", "blocks"):
        with pytest.raises(ConfigError, match=f"{name}.*no bottleneck"):
            model.prune_adapter(name, 0.5)
    for keep in (0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="keep"):
            model.prune_adapter("a", keep)
    with pytest.raises(AdapterExistsError):
        model.prune_adapter("a", 0.5, new_name="lora")
    empty = dict(BATCHES[0], attention_mask=torch.zeros_like(BATCHES[0]["input_ids"]))
    with pytest.raises(DataError):
        model.prune_adapter("a", 0.5, [empty])
    assert model.active_adapters == adapterhub.Stack("a")
    assert not any(part._forward_pre_hooks for part in model.adapters["a"].modules())
