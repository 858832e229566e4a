"""ReFT on models: the equations at the right positions, in generation at the prompt alone, every option saved."""

from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, Average, Fuse, Rows, Stack
from adapterhub.errors import ConfigError
from adapterhub.methods import load_config

KINDS = {"gpt2": "LMHeadModel", "llama": "ForCausalLM", "t5": "ForConditionalGeneration"}


def build(family: str, config: str, kind: str = "Model") -> Any:
    model: Any = adapterhub.init(tiny.model(family, kind))
    for index, name in enumerate("ab"):
        torch.manual_seed(index)
        model.add_adapter(name, config=config)
        with torch.no_grad():
            for parameter in model.adapters[name].parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model.double().eval()


def changes(model: Any, family: str, setup: Any, **inputs: Tensor) -> Tensor:
    """What the adapter adds after the first layer."""
    caught: list[Tensor] = []
    layer = model.get_submodule(model.sites.layers[0].path)
    with torch.no_grad():
        for one in (None, setup):
            with AdapterSetup(one):
                model.engine.enter()
                handle = layer.register_forward_hook(
                    lambda module, args, output: caught.append(output if torch.is_tensor(output) else output[0])
                )
                model(**inputs)
                handle.remove()
    return caught[1] - caught[0]


def by_hand(unit: Any, hidden: Tensor) -> Tensor:
    """The equations, row by row of R."""
    rotation = unit.projection
    if unit.config.orthogonality:
        rows: list[Tensor] = []
        for row in rotation:  # Gram and Schmidt
            for other in rows:
                row = row - (row @ other) * other
            rows.append(row / row.norm())
        rotation = torch.stack(rows)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(len(rotation)).to(rotation))
    source = hidden @ unit.learned_source.weight.T + unit.learned_source.bias
    if unit.config.non_linearity == "tanh":
        source = torch.tanh(source)
    if unit.config.subtract_projection:
        source = source - hidden @ rotation.T
    return source @ rotation


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["loreft", "noreft", "direft"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_first_and_last_tokens_of_a_text_are_changed(family: str, kind: str, tied: bool) -> None:
    options = f"r=3, prefix_positions=2, suffix_positions=2, tied_weights={tied}, non_linearity=tanh"
    model = build(family, f"{kind}[{options}]")
    inputs = tiny.inputs(family)  # seven tokens, of which the last row has two of padding
    caught: list[Tensor] = []
    layer = model.get_submodule(model.sites.layers[0].path)
    handle = layer.register_forward_hook(
        lambda module, args, output: caught.append(output if torch.is_tensor(output) else output[0])
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    found = changes(model, family, "a", **inputs)
    units = model.adapters["a"].at("layers.0.output").units
    assert len(units) == (1 if tied else 2)
    wanted = torch.zeros_like(found)
    with torch.no_grad():
        first, last = by_hand(units[0], caught[0]), by_hand(units[-1], caught[0])
    for row, length in enumerate((7, 7, 5)):
        wanted[row, :2] = first[row, :2]
        wanted[row, length - 2 : length] = last[row, length - 2 : length]
    torch.testing.assert_close(found, wanted)


def test_short_texts_are_changed_once() -> None:
    model = build("bert", "loreft[prefix_positions=5, suffix_positions=5]")
    found = changes(model, "bert", "a", input_ids=tiny.inputs("bert")["input_ids"])
    units = model.adapters["a"].at("layers.0.output").units
    assert len(units) == 2 and found.abs().amax(-1).min() > 0


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_it_begins_as_the_identity_and_every_parameter_learns(family: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    inputs = tiny.inputs(family)

    def outputs() -> list[Tensor]:
        return [value for value in model(**inputs).to_tuple() if torch.is_tensor(value) and value.is_floating_point()]

    with torch.no_grad():
        bare = outputs()
    for kind in ("loreft", "direft"):
        model.add_adapter(kind, config=f"{kind}[r=2, suffix_positions=1]")
        model.train_adapter(kind)
        model.eval()
        for found, wanted in zip(outputs(), bare, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            for parameter in model.adapters[kind].parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        sum(value.square().sum() for value in outputs()).backward()
        for parameter in model.adapters[kind].parameters():
            unread = family == "clip"  # of a text it reads one token, which may stand before the last
            assert parameter.grad is not None and (parameter.grad.any() or unread)
    model.set_active_adapters(None)
    with torch.no_grad():
        assert all(torch.equal(found, wanted) for found, wanted in zip(outputs(), bare, strict=True))


@pytest.mark.parametrize("config", ["loreft[r=2, suffix_positions=2]", "direft[r=3, non_linearity=relu, layers=[1]]",
                                    "noreft[tied_weights=True, suffix_positions=1, dropout=0.2]"])  # fmt: skip
def test_every_option_survives_saving(tmp_path: Any, config: str) -> None:
    model, inputs = build("bert", config), tiny.inputs("bert")
    model.save_adapter(tmp_path, "a")
    model.load_adapter(tmp_path, load_as="c")
    assert model.adapters["c"].config == model.adapters["a"].config == load_config(config)
    model.double()
    outputs = []
    for name in ("a", "c"):
        model.set_active_adapters(name)
        with torch.no_grad():
            outputs.append(model(**inputs).last_hidden_state)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)  # saved in single precision


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("family", KINDS)
def test_generated_tokens_are_left_alone(family: str, use_cache: bool) -> None:
    """Positions are those of the prompt: what is generated does not move them, with a cache and without."""
    model = build(family, "loreft[r=3, prefix_positions=2, suffix_positions=2]", KINDS[family])
    ids = tiny.inputs(family, batch=3)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padded before the text, as decoders are
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 98, "pad_token_id": 0}
    rows = ["a", Stack("a", "b"), None]
    with AdapterSetup(Rows(rows)):
        together = model.generate(ids, attention_mask=mask, use_cache=use_cache, **options)
    for row, own in enumerate(rows):
        start = int((1 - mask[row]).sum())
        with AdapterSetup(own):
            alone = model.generate(ids[row : row + 1, start:], use_cache=not use_cache, **options)[0]
        got = together[row] if family == "t5" else together[row, start:]
        if family != "t5" or not start:  # an encoder with relative positions, but for padding
            assert got[: len(alone)].tolist() == alone.tolist()


def test_a_stack_changes_what_the_first_one_made() -> None:
    model, inputs = build("bert", "loreft[r=2, prefix_positions=7]"), tiny.inputs("bert", batch=2)
    caught: list[Tensor] = []
    handle = model.encoder.layer[0].register_forward_hook(lambda module, args, output: caught.append(output))
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    first, second = (model.adapters[name].at("layers.0.output").units[0] for name in "ab")
    with torch.no_grad():
        middle = caught[0] + by_hand(first, caught[0])
        wanted = middle + by_hand(second, middle) - caught[0]
    wanted[1, 5:] = 0  # padding
    torch.testing.assert_close(changes(model, "bert", Stack("a", "b"), **inputs), wanted)


def test_averages_and_fusions_of_it() -> None:
    model, inputs = build("bert", "loreft[r=2]"), tiny.inputs("bert")
    parts = [changes(model, "bert", name, **inputs) for name in "ab"]
    torch.testing.assert_close(changes(model, "bert", Average("a", "b"), **inputs), sum(parts) / 2)
    model.add_adapter_fusion(["a", "b"], "static")
    model.double()
    layer = model.fusions["a,b"].at("layers.0.output")
    fused = changes(model, "bert", Fuse("a", "b"), **inputs)
    assert layer is not None and fused[:, 3:].abs().max() < 1e-12 < fused[:, :3].abs().max()


@pytest.mark.parametrize(
    "options", ["r=0", "prefix_positions=-1", "prefix_positions=0", "dropout=1", "non_linearity=none"]
)
def test_values_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        load_config(f"loreft[{options}]")


def test_a_rank_above_the_width_is_refused() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    with pytest.raises(ConfigError, match="33"):
        model.add_adapter("a", config="loreft[r=33]")
    assert not model.adapters
