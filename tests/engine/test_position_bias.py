"""Prefixes that the relative position bias of T5 counts: by hand, row by row, in generation, where they are refused."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, BatchSplit, Parallel, Rows, Stack
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.sweep.architectures import build as build_any

LENGTHS = {"a": 3, "b": 5, "plain": 2}  # of which the last one is not counted
LAYERS = 3  # of each tower: the bias that the first one makes goes on to the next, and from that to the last


def built(kind: str = "Model", family: str = "t5", **changes: Any) -> Any:
    changes |= {"num_layers": LAYERS, "num_decoder_layers": LAYERS, "tie_word_embeddings": False}
    model: Any = adapterhub.init(tiny.model(family, kind, **changes))
    with torch.no_grad():  # what is attended to, and at which distance, matters
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=2 if "relative_attention_bias" in name else 0.3)
    for name, length in LENGTHS.items():
        config = adapterhub.PrefixTuningConfig(
            flat=True, prefix_length=length, init_weights_seed=length, prefix_in_position_bias=name != "plain"
        )
        model.add_adapter(name, config=config)
    model.add_adapter("late", config=model.adapters["a"].config.replace(leave_out=(0, LAYERS)))
    return model.double().eval()


def outputs(model: Any, setup: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad(), AdapterSetup(setup):
        found: Tensor = model(**inputs).last_hidden_state
    return found


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["a", "late", "plain"])
@pytest.mark.parametrize("tower", ["encoder", "decoder"])
def test_by_hand_on_an_attention(tower: str, name: str, attention: str) -> None:
    model = built(attn_implementation=attention)
    module = getattr(model, tower).block[LAYERS - 1].layer[0].SelfAttention
    caught: list[Any] = []
    module.register_forward_hook(lambda module, args, output: caught.append((args[0], output[0])))
    inputs = tiny.inputs("t5")
    outputs(model, name, inputs)
    hidden, found = caught[-1]
    keys, values = model.adapters[name].at(f"{tower}.layers.{LAYERS - 1}.attention.prefix").prefix.chunk(2, dim=1)

    def heads(values: Tensor) -> Tensor:
        return values.view(*values.shape[:-1], 4, 8).transpose(-3, -2)

    rows, length, before = *hidden.shape[:2], len(keys)
    first = getattr(model, tower).block[0].layer[0].SelfAttention
    at = torch.arange(length).unsqueeze(1)
    to = torch.arange(before + length) - (before if name == "plain" else 0)
    buckets = first._relative_position_bucket(to - at, bidirectional=tower == "encoder")
    bias = first.relative_attention_bias(buckets).permute(2, 0, 1)
    if name == "plain":
        bias = bias * (to >= 0)
    mask = inputs["attention_mask"].bool() if tower == "encoder" else torch.ones(rows, length, dtype=torch.bool)
    seen = torch.cat((torch.ones(rows, before, dtype=torch.bool), mask), dim=1)[:, None].expand(-1, length, -1)
    if tower == "decoder":
        seen = seen & torch.ones(length, before + length, dtype=torch.bool).tril(before)
    with torch.no_grad():
        query, key, value = (heads(one(hidden)) for one in (module.q, module.k, module.v))
        key = torch.cat((heads(keys).expand(rows, -1, -1, -1), key), dim=2)
        value = torch.cat((heads(values).expand(rows, -1, -1, -1), value), dim=2)
        scores = (query @ key.transpose(-1, -2) + bias).masked_fill(~seen[:, None], -1e30)
        wanted = module.o((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_rows_of_a_mixed_batch_are_as_if_they_ran_alone(family: str, attention: str) -> None:
    model, inputs = built(family=family, attn_implementation=attention), tiny.inputs(family, batch=4)
    rows: list[Any] = ["a", None, Stack("b", "plain", "a"), "plain"]
    split = ["b", "a", "a", "a"]
    for setup, alone in {Rows(rows): rows, BatchSplit("b", "a", batch_sizes=[1, 3]): split}.items():
        together = outputs(model, setup, inputs)
        for row, own in enumerate(alone):
            single = outputs(model, own, {name: value[row : row + 1] for name, value in inputs.items()})
            torch.testing.assert_close(together[row : row + 1], single)
    both = outputs(model, Parallel("a", Stack("b", "a")), inputs)
    torch.testing.assert_close(both, torch.cat([outputs(model, own, inputs) for own in ("a", Stack("b", "a"))]))
    assert (outputs(model, "a", inputs) - outputs(model, Stack("a", "plain"), inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
def test_generates_with_and_without_a_cache_row_by_row(cache: str, beams: int) -> None:
    model = built("ForConditionalGeneration")
    ids = tiny.inputs("t5", batch=3)["input_ids"]
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "eos_token_id": None, "pad_token_id": 0}
    caches: dict[str, Any] = {
        "none": {"use_cache": False},
        "dynamic": {"use_cache": True},
        "static": {"use_cache": True, "cache_implementation": "static"},
    }
    rows = ["a", None, Stack("b", "a")]
    with AdapterSetup(Rows(rows)):
        together = model.generate(ids, **caches[cache], **options)
    for row, own in enumerate(rows):
        with AdapterSetup(own):
            alone = model.generate(ids[row : row + 1], **caches["none"], **options)
            if beams == 1:
                with torch.no_grad():
                    whole = model(input_ids=ids[row : row + 1], decoder_input_ids=alone[:, :-1]).logits
                assert torch.equal(whole.argmax(-1), alone[:, 1:])
        assert torch.equal(together[row], alone[0])


def test_saved_copied_pickled_ejected_and_compiled(tmp_path: Path) -> None:
    model, inputs = built(), tiny.inputs("t5")
    net = adapterhub.PrefixTuningConfig(prefix_length=4, bottleneck_size=5, prefix_in_position_bias=True)
    model.add_adapter("net", config=net)
    model.double()
    wanted = outputs(model, Rows(["a", "net", "plain"]), inputs)
    model.save_adapter(tmp_path, "net")
    model.delete_adapter("net")
    model.load_adapter(tmp_path, load_as="net")
    model.double()
    assert model.adapters["net"].config == net
    torch.testing.assert_close(outputs(model, Rows(["a", "net", "plain"]), inputs), wanted, rtol=1e-5, atol=1e-5)
    wanted = outputs(model, "net", inputs)
    model.eject_prefix_tuning("net")
    torch.testing.assert_close(outputs(model, "net", inputs), wanted)
    setup = Rows(["net", None, "b"])
    wanted = outputs(model, setup, inputs)
    model.active_adapters = setup
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.delete_adapter("net")
    for other in others:
        with torch.no_grad():
            torch.testing.assert_close(other(**inputs).last_hidden_state, wanted)
    torch.compiler.reset()
    compiled = torch.compile(others[0], fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).last_hidden_state, wanted)


@pytest.mark.parametrize("family", ["bert", "bart", "llama"])
def test_models_without_such_a_bias_are_refused(family: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    model.add_adapter("a", config="prefix_tuning_flat[prefix_in_position_bias=True]")
    with pytest.raises(CompositionError, match=r"adapters a .* has no relative position bias"):
        model.set_active_adapters("a")
    assert model.active_adapters is None


def test_every_architecture_has_it_where_it_makes_it() -> None:
    found = {}
    for family in ("umt5", "switch_transformers", "udop"):
        model: Any = adapterhub.init(build_any(family))
        model.add_adapter("a", config="prefix_tuning_flat[prefix_in_position_bias=True]")
        model.add_adapter("b", config="prefix_tuning_flat[prefix_in_position_bias=True, encoder_prefix=False]")
        attentions = [one.attention for one in model.sites.sublayers if one.kind == "attention"]
        found[family] = [None if one.bias_at is None else one.bias_at == one.path for one in attentions]
        if family != "udop":
            model.set_active_adapters("a")
            continue
        with pytest.raises(CompositionError, match="encoder"):  # whose bias is of places on a page too
            model.set_active_adapters("a")
        model.set_active_adapters("b")
    assert found == {
        "umt5": [True, True, True, True],
        "switch_transformers": [True, False, True, False],
        "udop": [None, None, True, False],
    }


def test_it_is_not_for_positions_that_are_told_too() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        adapterhub.PrefixTuningConfig(shift_positions=True, prefix_in_position_bias=True)
