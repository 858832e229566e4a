"""Ladder side-tuning on models: the paper's equations, no gradient in the base, and kept states of all layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import adapterhub
import tiny
from adapterhub import (
    AdapterSetup,
    AutoAdapterModel,
    Average,
    BatchSplit,
    Fuse,
    Parallel,
    Rows,
    Split,
    Stack,
    TrunkCache,
)
from adapterhub.engine import Trunk
from adapterhub.errors import AdapterHubError, CompositionError, ConfigError, TrunkError
from adapterhub.methods import load_config

LST = "lst[reduction_factor=4, heads=2]"
FAMILIES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert", "gpt2", "llama", "gemma3", "vit")
LAYERS = {"distilbert": "n_layers", "gpt2": "n_layer"}


def build(family: str, config: str = LST, layers: int = 3, **changes: Any) -> Any:
    """A model with a ladder whose values are no identity."""
    model = adapterhub.init(tiny.model(family, **{LAYERS.get(family, "num_hidden_layers"): layers} | changes))
    for name in ("a", "b"):
        model.add_adapter(name, config=config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.train_adapter("a")
    return model.eval()


def read_and_given(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    """What each layer of the bare model reads, and what the last one gives."""
    found: list[Tensor] = []
    handles = []
    paths = [layer.path for layer in model.sites.layers]
    for path in paths:
        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(lambda module, args: found.append(args[0])))
    last = model.get_submodule(paths[-1])
    handles.append(last.register_forward_hook(lambda m, a, out: found.append(out if torch.is_tensor(out) else out[0])))
    with torch.no_grad(), AdapterSetup(None):
        model(**inputs)
    for handle in handles:
        handle.remove()
    return found


def by_hand(model: Any, name: str, states: list[Tensor], mask: Tensor | None, causal: bool) -> Tensor:
    """The equations: gates, blocks head by head and row by row, and the output."""
    adapter, side = model.adapters[name], None
    for number, hidden in enumerate(states[:-1]):
        rung = adapter.get_submodule(f"layers.{number}.side")
        low = hidden @ rung.down.weight.T + rung.down.bias
        if side is None:
            assert rung.alpha is None
            side = low
        else:
            gate = 1 / (1 + torch.exp(-rung.alpha / 0.1))
            side = gate * low + (1 - gate) * side
        side = torch.stack(
            [block(rung.block, row, None if mask is None else mask[n], causal) for n, row in enumerate(side)]
        )
    last = adapter.get_submodule(f"layers.{len(states) - 2}.side")
    written = side @ last.up.weight.T + last.up.bias
    return states[-1] + written if last.config.add_to_base else written


def block(module: Any, row: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    width, heads = row.shape[-1], module.config.heads
    normed = F.layer_norm(row, (width,), module.attention_norm.weight, module.attention_norm.bias)
    q, k, v = (normed @ module.qkv.weight.T + module.qkv.bias).split(width, dim=-1)
    found = []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = q[:, part] @ k[:, part].T / (width // heads) ** 0.5
        hidden = torch.zeros_like(scores, dtype=torch.bool) if mask is None else ~mask.bool().expand_as(scores)
        if causal:
            hidden = hidden | torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden & ~torch.eye(len(row), dtype=torch.bool), -torch.inf)
        found.append(scores.softmax(-1) @ v[:, part])
    row = row + torch.cat(found, dim=-1) @ module.o.weight.T + module.o.bias
    normed = F.layer_norm(row, (width,), module.feed_forward_norm.weight, module.feed_forward_norm.bias)
    return row + F.gelu(normed @ module.up.weight.T + module.up.bias) @ module.down.weight.T + module.down.bias


def after_last(model: Any, inputs: dict[str, Tensor], **more: Any) -> Tensor:
    """What leaves the last layer with what is active."""
    found: list[Tensor] = []
    model.engine.enter()
    last = model.get_submodule(model.sites.layers[-1].path)
    handle = last.register_forward_hook(lambda m, a, out: found.append(out if torch.is_tensor(out) else out[0]))
    model(**inputs, **more)
    handle.remove()
    return found[0]


@pytest.mark.parametrize("config", [LST, "lst[reduction_factor=4, heads=2, add_to_base=False]"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_equations_of_the_paper(family: str, config: str) -> None:
    model, inputs = build(family, config), tiny.inputs(family)
    states = read_and_given(model, inputs)
    with torch.no_grad():
        wanted = by_hand(model, "a", states, inputs.get("attention_mask"), family in tiny.DECODERS)
        torch.testing.assert_close(after_last(model, inputs), wanted, atol=1e-4, rtol=1e-4)


def test_it_begins_at_the_identity_and_its_gates_at_one_half() -> None:
    model, inputs = adapterhub.init(tiny.model("bert")), tiny.inputs("bert")
    wanted = model(**inputs).last_hidden_state
    model.add_adapter("a", config=LST, set_active=True)
    torch.testing.assert_close(model(**inputs).last_hidden_state, wanted)
    assert model.adapters["a"].get_submodule("layers.1.side").alpha.item() == 0


def test_no_gradient_enters_the_base() -> None:
    model, inputs = build("bert", "lst[reduction_factor=4, heads=2, add_to_base=False]"), tiny.inputs("bert")
    model.requires_grad_(True)
    after_last(model, inputs).square().sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in model.named_parameters() if name.startswith("adapters.a.")}


def test_layers_that_are_left_out_have_no_rung() -> None:
    model, inputs = build("bert", "lst[reduction_factor=4, heads=2, leave_out=[0, 2]]"), tiny.inputs("bert")
    assert list(model.adapters["a"].site_names) == ["layers.1.side", "layers.2.side"]
    states = read_and_given(model, inputs)
    first, last = (model.adapters["a"].get_submodule(f"layers.{number}.side") for number in (1, 2))
    with torch.no_grad():
        low = states[1] @ first.down.weight.T + first.down.bias
        rows = [block(first.block, row, inputs["attention_mask"][n], False) for n, row in enumerate(low)]
        wanted = states[-1] + torch.stack(rows) @ last.up.weight.T + last.up.bias
        torch.testing.assert_close(after_last(model, inputs), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_states_of_all_layers_run_it_without_the_base(family: str) -> None:
    model, inputs = build(family), tiny.inputs(family)
    wanted = model(**inputs).last_hidden_state
    wanted.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.adapters["a"].parameters()]
    model.zero_grad()
    with Trunk(model) as trunk:
        assert (trunk.depth, trunk.kept, trunk.width) == (3, (0, 1, 2, 3), 4 * 32)
        states = trunk.states(**inputs)
        torch.testing.assert_close(states, torch.cat(read_and_given(model, inputs), dim=-1))
        with torch.no_grad():
            for layer in model.sites.layers:
                for parameter in model.get_submodule(layer.path).parameters():
                    parameter.fill_(float("nan"))
        found = model(**inputs, trunk_states=states).last_hidden_state
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        found.square().sum().backward()
    for parameter, gradient in zip(model.adapters["a"].parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-4, rtol=1e-4)


def test_a_trunk_of_another_adapter_does_not_do() -> None:
    model, inputs = build("bert"), tiny.inputs("bert")
    model.add_adapter("top", config="seq_bn[reduction_factor=4,leave_out=[0,1]]")
    model.set_active_adapters("top")
    with Trunk(model) as trunk:
        states = trunk.states(**inputs)
        model.set_active_adapters("a")
        with pytest.raises(TrunkError, match="a ladder reads more"):
            model(**inputs, trunk_states=states)
    model.set_active_adapters(Stack("top", "a"))
    with Trunk(model) as trunk, torch.no_grad():
        assert trunk.kept == (0, 1, 2)
        found = model(**inputs, trunk_states=trunk.states(**inputs)).last_hidden_state
        torch.testing.assert_close(found, model(**inputs).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_compositions_give_each_row_what_it_has_alone() -> None:
    model, inputs = build("bert"), tiny.inputs("bert", batch=2)
    model.add_adapter("seq", config="seq_bn[reduction_factor=4]")
    tiny.randomise(model, "seq")

    def run(setup: Any, rows: slice = slice(None)) -> Tensor:
        with torch.no_grad(), AdapterSetup(setup):
            return model(**{name: value[rows] for name, value in inputs.items()}).last_hidden_state

    alone = [run("a", slice(0, 1)), run("b", slice(1, 2))]
    for setup in (Rows("a", "b"), BatchSplit("a", "b", batch_sizes=[1, 1])):
        torch.testing.assert_close(run(setup), torch.cat(alone), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run(Parallel("a", "b")), torch.cat([run("a"), run("b")]), atol=1e-5, rtol=1e-5)
    mean = (after(model, inputs, "a") + after(model, inputs, "b")) / 2
    torch.testing.assert_close(after(model, inputs, Average("a", "b")), mean, atol=1e-5, rtol=1e-5)
    both = after(model, inputs, "a") + after(model, inputs, "b") - after(model, inputs, None)
    torch.testing.assert_close(after(model, inputs, Stack("a", "b")), both, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(run(Stack("seq", "a")), run("a"))


def after(model: Any, inputs: dict[str, Tensor], setup: Any) -> Tensor:
    with torch.no_grad(), AdapterSetup(setup):
        return after_last(model, inputs)


def test_what_has_no_meaning_is_refused() -> None:
    model, inputs = build("bert"), tiny.inputs("bert")
    model.add_adapter("prompt", config="prompt_tuning[prompt_length=2]")
    refused = {
        Split("a", "b", splits=[3, 4]): "parts of a text",
        Stack("a", "a"): "more than once",
        Stack("prompt", "a"): "a prompt",
    }
    for setup, message in refused.items():
        with pytest.raises(CompositionError, match=message):
            model.set_active_adapters(setup)
    with pytest.raises(AdapterHubError, match="nothing that could be fused"):
        model.add_adapter_fusion(Fuse("a", "b"))
    with pytest.raises(CompositionError, match="last layer, where it writes, is skipped"):
        model.set_active_adapters("a", skip_layers=[2])
    with torch.no_grad():
        model.set_active_adapters("a", skip_layers=[0])  # its first rung is that beside layer 1 then
        model(**inputs)
    for config, message in {
        "lst[heads=3]": "3 heads",
        "lst[temperature=0]": "temperature",
        "lst[dropout=1]": "dropout",
    }.items():
        with pytest.raises(ConfigError, match=message):
            model.add_adapter("c", config=config)
    model.engine.add_bank("bank", load_config(LST), 2)
    with pytest.raises(ConfigError, match="cannot be in a bank"):
        model.set_active_adapters("bank")
    for family in ("t5", "clip"):
        with pytest.raises(ConfigError, match="one tower"):
            adapterhub.init(tiny.model(family)).add_adapter("a", config=LST)


def test_generation_runs_whole_texts_or_says_so() -> None:
    model = adapterhub.init(tiny.model("llama", "ForCausalLM"))
    model.add_adapter("a", config=LST, set_active=True)
    tiny.randomise(model, "a")
    ids = tiny.inputs("llama")["input_ids"][:1]
    with torch.no_grad():
        made = model.generate(ids, max_new_tokens=3, do_sample=False, use_cache=False, pad_token_id=0, eos_token_id=-1)
        for _ in range(3):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        assert torch.equal(made, ids)
        with pytest.raises(CompositionError, match="use_cache=False"):
            model.generate(ids, max_new_tokens=3, pad_token_id=0, eos_token_id=-1)


def test_it_is_saved_and_loaded_and_the_base_is_as_it_was(tmp_path: Path) -> None:
    model, inputs = build("bert"), tiny.inputs("bert")
    wanted = model(**inputs).last_hidden_state
    model.save_adapter(tmp_path / "a", "a")
    fresh = adapterhub.init(tiny.model("bert", num_hidden_layers=3))
    state = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.load_adapter(tmp_path / "a", set_active=True)
    torch.testing.assert_close(fresh(**inputs).last_hidden_state, wanted)
    fresh.delete_adapter("a")
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())
    assert torch.equal(fresh(**inputs).last_hidden_state, tiny.model("bert", num_hidden_layers=3)(**inputs)[0])


def test_a_cache_keeps_the_states_of_all_layers(tmp_path: Path) -> None:
    model = AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_adapter("a", config=LST)
    model.train_adapter("a")
    rows = [{"input_ids": [5, 6, 7, 8][: 2 + number % 3]} for number in range(4)]
    kept = TrunkCache(tmp_path, dtype=torch.float32).keep(
        Trunk(model), rows, lambda batch: {"input_ids": torch.tensor([row["input_ids"] for row in batch])}
    )
    with AdapterSetup(None), torch.no_grad():
        states = read_and_given(model.eval(), {"input_ids": torch.tensor([rows[1]["input_ids"]])})
    torch.testing.assert_close(kept[1], torch.cat(states, dim=-1)[0])
