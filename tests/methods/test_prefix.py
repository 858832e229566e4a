"""Prefix tuning on models: by hand, by every attention, row by row, in generation, ejected."""

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AdapterSetup, Average, BatchSplit, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.methods import load_config

CONFIGS = {
    "p": "prefix_tuning[prefix_length=3, bottleneck_size=5]",
    "q": "prefix_tuning_flat[prefix_length=5, leave_out=[0]]",
    "g": "prefix_tuning[prefix_length=2, bottleneck_size=4, use_gating=True, shared_gating=False]",
    "a": "seq_bn[reduction_factor=4]",
}
KINDS = {"gpt2": "LMHeadModel", "llama": "ForCausalLM", "gemma2": "ForCausalLM", "t5": "ForConditionalGeneration",
         "bart": "ForConditionalGeneration"}  # fmt: skip
WITHOUT = ("deberta", "deberta-v2", "mpnet")  # which do not ask the attention interface


def build(family: str, kind: str = "Model", attention: str | None = None) -> Any:
    changes = {} if attention is None else {"attn_implementation": attention}
    model: Any = adapterhub.init(tiny.model(family, kind, **changes))
    for name, config in CONFIGS.items():
        torch.manual_seed(len(name) + ord(name))
        model.add_adapter(name, config=config)
        with torch.no_grad():
            for parameter in model.adapters[name].parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def first(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    dtype = next(model.parameters()).dtype
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        return next(value for value in model(**given).to_tuple() if torch.is_tensor(value))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["p", "q"])
def test_by_hand_on_an_attention(name: str, attention: str) -> None:
    model = build("bert", attention=attention)
    model.set_active_adapters(name)
    layer = model.encoder.layer[1].attention.self
    caught: list[Any] = []
    layer.register_forward_hook(lambda module, args, output: caught.append((args[0], output[0])))
    inputs = tiny.inputs("bert")
    first(model, inputs)
    hidden, found = caught[-1]
    part = model.adapters[name].at("layers.1.attention.prefix")
    if name == "p":
        net = model.adapters[name].shared["self"]
        made = part.linear(torch.tanh(net.linear(net.wte.weight)))
    else:
        made = part.prefix
    keys, values = made[:, :32], made[:, 32:]

    def heads(values: Tensor) -> Tensor:
        return values.view(*values.shape[:-1], 4, 8).transpose(-3, -2)

    with torch.no_grad():
        query, key, value = (heads(one(hidden)) for one in (layer.query, layer.key, layer.value))
        key = torch.cat((heads(keys).expand(3, -1, -1, -1), key), dim=2)
        value = torch.cat((heads(values).expand(3, -1, -1, -1), value), dim=2)
        scores = query @ key.transpose(-1, -2) / 8**0.5
        seen = torch.cat((torch.ones(3, len(made)), inputs["attention_mask"]), dim=1).bool()
        scores = scores.masked_fill(~seen[:, None, None], -1e30)
        wanted = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_by_hand_where_distances_in_an_image_have_a_bias(attention: str) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    config = transformers.BeitConfig(**size, image_size=8, patch_size=4, use_relative_position_bias=True)
    config._attn_implementation = attention
    model: Any = adapterhub.init(transformers.BeitModel(config))
    for layer in model.layers:
        torch.nn.init.normal_(layer.relative_position_bias.relative_position_bias_table)
    model.add_adapter("q", config="prefix_tuning_flat[prefix_length=5]", set_active=True)
    module, caught = model.layers[1].attention, []
    module.register_forward_hook(
        lambda module, args, kwargs, output: caught.append((args[0], kwargs["attention_mask"], output[0])),
        with_kwargs=True,
    )
    with torch.no_grad():
        model.eval()(pixel_values=torch.randn(3, 3, 8, 8))
        hidden, bias, found = caught[-1]
        made = model.adapters["q"].at("layers.1.attention.prefix").prefix.expand(3, -1, -1).chunk(2, dim=-1)
        key, value = (
            torch.cat((own, linear(hidden)), dim=1).unflatten(-1, (4, 8)).transpose(1, 2)
            for linear, own in zip((module.k_proj, module.v_proj), made, strict=True)
        )
        query = module.q_proj(hidden).unflatten(-1, (4, 8)).transpose(1, 2)
        scores = query @ key.transpose(-1, -2) / 8**0.5 + torch.nn.functional.pad(bias, (5, 0))
        wanted = module.o_proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    assert bias.abs().max() > 1
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "bart", "whisper", "modernbert"])
def test_eager_and_sdpa_agree(family: str, padded: bool) -> None:
    inputs = tiny.inputs(family)
    if not padded:
        inputs.pop("attention_mask", None)
    setups = ["p", "g", Stack("p", "q"), Rows(["p", None, "q"])]
    models = [build(family, attention=attention) for attention in ("eager", "sdpa")]
    for setup in setups:
        outputs = []
        for model in models:
            model.set_active_adapters(setup)
            outputs.append(first(model, inputs))
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_flex_agrees(family: str) -> None:
    inputs = tiny.inputs(family)
    models = [build(family, attention=attention).float() for attention in ("eager", "flex_attention")]
    for setup in ("p", Stack("g", "q")):  # torch cannot compile flex attention for rows of unlike prefixes on CPUs
        outputs = []
        for model in models:
            model.set_active_adapters(setup)
            outputs.append(first(model, inputs))
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in WITHOUT])
def test_every_parameter_learns_and_the_base_is_left_alone(family: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    inputs = tiny.inputs(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bare = first(model, inputs)
    model.add_adapter("p", config=CONFIGS["p"])
    model.train_adapter("p")
    outputs = model.eval()(**inputs).to_tuple()
    sum(value.square().sum() for value in outputs if torch.is_tensor(value) and value.requires_grad).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.adapters.parameters())
    model.delete_adapter("p")
    assert torch.equal(first(model, inputs), bare)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any(hasattr(getattr(module, "config", None), "handler") for module in model.modules())


@pytest.mark.parametrize("family", WITHOUT)
def test_other_architectures_say_so(family: str) -> None:
    with pytest.raises(ConfigError, match="act nowhere"):
        adapterhub.init(tiny.model(family)).add_adapter("p", config="prefix_tuning")


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_rows_of_a_mixed_batch_are_as_if_they_ran_alone(family: str) -> None:
    model, inputs = build(family), tiny.inputs(family, batch=4)
    rows: list[Any] = ["p", None, Stack("q", "a", "p"), "g"]
    by_task = ["g", "p", "q"]
    setups: dict[Any, list[Any]] = {
        Rows(rows): rows,
        BatchSplit("p", "a", batch_sizes=[1, 3]): ["p", "a", "a", "a"],
        MultiTask(*by_task): [by_task[task] for task in (2, 0, 1, 0)],
    }
    for setup, alone in setups.items():
        tasks = {"task_ids": [2, 0, 1, 0]} if isinstance(setup, MultiTask) else {}
        with torch.no_grad(), AdapterSetup(setup):
            together = model(**inputs, **tasks).last_hidden_state
        for row, own in enumerate(alone):
            with AdapterSetup(own):
                single = model(**{name: value[row : row + 1] for name, value in inputs.items()}).last_hidden_state
            torch.testing.assert_close(together[row : row + 1], single)
    with torch.no_grad(), AdapterSetup(Parallel("p", Stack("a", "q"))):
        both = model(**inputs).last_hidden_state
    for channel, own in enumerate(("p", Stack("a", "q"))):
        with AdapterSetup(own):
            torch.testing.assert_close(both[4 * channel : 4 * channel + 4], model(**inputs).last_hidden_state)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("family", KINDS)
def test_generates_with_and_without_a_cache_row_by_row(family: str, cache: str, beams: int) -> None:
    model = build(family, KINDS[family])
    ids = tiny.inputs(family, batch=3)["input_ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams, "eos_token_id": 98, "pad_token_id": 0}
    caches: dict[str, Any] = {
        "none": {"use_cache": False},
        "dynamic": {"use_cache": True},
        "static": {"use_cache": True, "cache_implementation": "static"},
    }
    rows = ["p", None, Stack("p", "q")]
    with AdapterSetup(Rows(rows)):
        together = model.generate(ids, **caches[cache], **options)
    for row, own in enumerate(rows):
        with AdapterSetup(own):
            other = "dynamic" if cache == "none" else "none"
            alone = model.generate(ids[row : row + 1], **caches[other], **options)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("family", ["bert", "t5", "llama"])
@pytest.mark.parametrize("name", ["p", "g", "q"])
def test_ejected_it_gives_the_same(family: str, name: str) -> None:
    model, inputs = build(family), tiny.inputs(family)
    model.set_active_adapters(name)
    before = first(model, inputs)
    model.eject_prefix_tuning(name)
    torch.testing.assert_close(first(model, inputs), before)
    assert model.adapters[name].config.flat and not model.adapters[name].shared_modules()
    with pytest.raises(ConfigError, match="bottleneck"):
        model.eject_prefix_tuning("a")


@pytest.mark.parametrize("setup", [Average("p", "q"), Fuse("p", "q"), Split("p", "q", splits=2), Average("p", "a")])
def test_what_has_no_meaning_is_refused(setup: Any) -> None:
    model: PreTrainedModel = build("bert")
    if isinstance(setup, Fuse):
        with pytest.raises(CompositionError, match="fused"):
            model.add_adapter_fusion(setup)
        return
    with pytest.raises(CompositionError, match="p"):
        model.set_active_adapters(setup)
    assert model.active_adapters is None


def test_saved_copied_pickled_and_compiled() -> None:
    model, inputs = build("llama").float(), tiny.inputs("llama")
    model.set_active_adapters(Rows(["p", None, "q"]))
    wanted = first(model, inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for parameter in model.adapters.parameters():
            parameter.data.zero_()
        assert torch.equal(first(other, inputs), wanted)
        model.load_state_dict(other.state_dict())
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(first(compiled, inputs), wanted)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = build("llama").train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        with AdapterSetup(Stack("p", "q")):
            output = model(**tiny.inputs("llama")).last_hidden_state
        output.square().sum().backward()
        found.append({path: p.grad for path, p in model.adapters.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient)


@pytest.mark.parametrize("config", ["mam", "unipelt", "lora[r=2]|seq_bn[leave_out=[1]]|vera|ia3|par_bn"])
def test_unions_are_their_parts(tmp_path: Any, config: str) -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("u", config=config)
    with torch.no_grad():
        for parameter in model.adapters["u"].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    names = []
    for index, part in enumerate(model.adapters["u"].config.configs):
        names.append(f"part{index}")
        model.add_adapter(names[-1], config=part)
        own = {
            key.partition(".")[2]: value
            for key, value in model.adapters["u"].state_dict().items()
            if key.startswith(f"{index}.")
        }
        model.adapters[names[-1]].load_state_dict(own)
    inputs = tiny.inputs("bert")
    model.set_active_adapters("u")
    union = first(model, inputs)
    scores = model(**inputs, output_adapter_gating_scores=True).adapter_gating_scores
    assert bool(scores) == (config == "unipelt")
    model.set_active_adapters(names)
    torch.testing.assert_close(first(model, inputs), union)
    model.save_adapter(tmp_path, "u")
    model.load_adapter(tmp_path, load_as="v", set_active=True)
    assert model.adapters["v"].config == model.adapters["u"].config
    assert torch.equal(first(model, inputs), union)
    if "leave_out" not in config:
        model.load_adapter(tmp_path, load_as="w", leave_out=[0])
        assert not any("layers.0" in site for site in model.adapters["w"].site_names)


@pytest.mark.parametrize("options", ["prefix_length=0", "bottleneck_size=0", "dropout=1", "non_linearity=none"])
def test_values_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        load_config(f"prefix_tuning[{options}]")


@pytest.mark.parametrize("text", ["mam|lora", "lora|", "lora||ia3", "lora|magic"])
def test_malformed_unions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(text)
