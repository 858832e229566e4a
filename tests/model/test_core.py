"""Adapters on a model of every family: what they change, and all that they must not change."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import adapterhub
import tiny
from adapterhub.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CompositionError,
    ConfigError,
    SiteError,
)
from tiny import output, randomise

CONFIGS = ("seq_bn", "double_seq_bn", "par_bn", "scaled_par_bn", "adapter_plus", "houlsby_2019")
SMALL = "[reduction_factor=4]"
WEIGHTS = ("lora[r=2,attn_matrices=[q,v,o]]", "dora[r=2,bias=True]", "lora[r=2,target_modules=all-linear]", "ia3")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_identity_base_untouched_and_gradients(family: str, config: str) -> None:
    model = tiny.model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classes = [type(module) for module in model.modules()][1:]
    with torch.no_grad():
        bare = output(model, family)
    adapterhub.init(model)
    model.add_adapter("a", config=config + SMALL)
    with torch.no_grad():
        assert torch.equal(output(model, family), bare)  # not active
        model.set_active_adapters("a")
        near = output(model, family)
        assert (near - bare).abs().max() < 0.05  # near the identity as it was made
        for name, parameter in model.adapters["a"].named_parameters():
            if "up_proj" in name:
                parameter.zero_()
        identity = output(model, family)
        if config == "adapter_plus" and family == "phi":  # x is added and taken off again beside the other sublayer
            torch.testing.assert_close(identity, bare, rtol=0, atol=2e-6)
        else:
            assert torch.equal(identity, bare)  # the identity to the bit when the adapter adds nothing
    randomise(model, "a")

    model.train_adapter("a")
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    changed = output(model, family)
    assert (changed - bare).abs().max() > 0.05
    loss = sum(
        v.float().sin().sum() for v in model(**tiny.inputs(family)).to_tuple() if torch.is_tensor(v) and v.requires_grad
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        ours = name.startswith("adapters.a.")
        assert parameter.requires_grad == ours
        assert (parameter.grad is not None) == ours
    moved = [bool(parameter.grad.any()) for parameter in model.adapters["a"].parameters()]
    assert all(moved) or config in ("scaled_par_bn", "houlsby_2019", "adapter_plus")
    assert sum(moved) >= 0.7 * len(moved)
    optimiser.step()

    model.eval()
    model.set_active_adapters(None)
    with torch.no_grad():
        assert torch.equal(output(model, family), bare)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(name in before or name.startswith("adapters.a.") for name in state)
    model.delete_adapter("a")
    assert list(model.state_dict()) == list(before)
    assert [type(module) for module in model.modules() if not isinstance(module, type(model.adapters))][1:] == classes


@pytest.mark.parametrize("config", ["houlsby_2019[original_ln_before=True,original_ln_after=False]", "lora[r=2]"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_copies_and_pickles_keep_their_own_adapters(family: str, config: str) -> None:
    model = adapterhub.init(tiny.model(family))
    model.add_adapter("a", config=config)
    randomise(model, "a")
    model.set_active_adapters("a")
    with torch.no_grad():
        expected = output(model, family)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(twin) is type(model)
            assert torch.equal(output(twin, family), expected)
            twin.set_active_adapters(None)
            assert not torch.equal(output(twin, family), expected)
            assert torch.equal(output(model, family), expected)
            twin.set_active_adapters("a")
            for parameter in twin.adapters.parameters():
                parameter.zero_()
            assert not torch.equal(output(twin, family), expected)
            assert torch.equal(output(model, family), expected)


@pytest.mark.parametrize(
    ("family", "config"),
    [(family, name + SMALL) for family in ("bert", "gpt2", "bart", "llama") for name in CONFIGS]
    + [(family, config) for family in ("bert", "gpt2") for config in WEIGHTS],
)
def test_compiles_without_graph_breaks(family: str, config: str) -> None:
    torch._dynamo.reset()
    model = adapterhub.init(tiny.model(family))
    model.add_adapter("a", config=config, set_active=True)
    randomise(model, "a")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(output(compiled, family), output(model, family), rtol=1e-5, atol=1e-5)
    model.train_adapter("a")
    model.eval()
    output(compiled, family).sin().sum().backward()
    compiled_gradients = [parameter.grad.clone() for parameter in model.adapters.parameters()]
    model.zero_grad()
    output(model, family).sin().sum().backward()
    for got, parameter in zip(compiled_gradients, model.adapters.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-4, atol=1e-5)


def test_compiled_model_follows_a_change_of_setup() -> None:
    torch._dynamo.reset()
    model = adapterhub.init(tiny.model("bert"))
    compiled = torch.compile(model, backend="aot_eager")
    for name in "ab":
        model.add_adapter(name, config="seq_bn[reduction_factor=4]")
        randomise(model, name, std=0.2 if name == "a" else 0.4)
    with torch.no_grad():
        for setup in (None, "a", "b", ["a", "b"], None, "a"):
            model.set_active_adapters(setup)
            torch.testing.assert_close(output(compiled, "bert"), output(model, "bert"), rtol=1e-5, atol=1e-5)
        with adapterhub.AdapterSetup("b"):
            torch.testing.assert_close(output(compiled, "bert"), output(model, "bert"), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(output(compiled, "bert"), output(model, "bert"), rtol=1e-5, atol=1e-5)


def test_a_stack_runs_one_adapter_on_what_the_other_gave() -> None:
    model = adapterhub.init(tiny.model("bert"))
    for name in "ab":
        model.add_adapter(name, config="double_seq_bn[reduction_factor=4]")
        randomise(model, name, 0.2 if name == "a" else 0.4)
    site = next(model.sites.sublayers)
    model.set_active_adapters(adapterhub.Stack("a", "b"))
    seen = {}
    model.get_submodule("encoder.layer.0.attention.output.dense").register_forward_hook(
        lambda module, args, out: seen.update(h=out)
    )
    model.get_submodule(site.norm).register_forward_pre_hook(lambda module, args: seen.update(sum=args[0]))
    model.get_submodule(site.residual_at).register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    with torch.no_grad():
        output(model, "bert")
        first = model.adapters["a"].at(site.name)(seen["h"], seen["x"], None)
        second = model.adapters["b"].at(site.name)(first, seen["x"], None)
    torch.testing.assert_close(seen["sum"], second + seen["x"])


def test_leave_out_and_skip_layers_count_over_encoder_and_decoder() -> None:
    model = adapterhub.init(tiny.model("bart"))
    model.add_adapter("a", config="double_seq_bn[leave_out=[0, 3]]")
    names = {name.rsplit(".", 1)[0] for name in model.adapters["a"].site_names}
    assert names == {"encoder.layers.1", "decoder.layers.0"}
    model.add_adapter("b", config="seq_bn")
    randomise(model, "b")
    model.set_active_adapters("b", skip_layers=[0, 1, 2, 3])
    with torch.no_grad():
        all_skipped = output(model, "bart")
        model.set_active_adapters("b", skip_layers=[0, 1])
        decoder_only = model(**tiny.inputs("bart"))
        model.set_active_adapters(None)
        bare = model(**tiny.inputs("bart"))
    assert torch.equal(all_skipped, bare.last_hidden_state)
    assert torch.equal(decoder_only.encoder_last_hidden_state, bare.encoder_last_hidden_state)
    assert not torch.equal(decoder_only.last_hidden_state, bare.last_hidden_state)


def test_houlsby_2019_trains_norms_of_its_own() -> None:
    model = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="houlsby_2019")
    model.train_adapter("a")
    norms = [name for name, _ in model.adapters["a"].named_parameters() if "norms" in name]
    assert len(norms) == 2 * 5  # weight and bias of the embedding norm and two norms in each of two layers
    with torch.no_grad():
        before = output(model.eval(), "bert")
        model.adapters["a"].get_submodule("layers.1.norms.1").norm.bias.add_(1.0)
        after = output(model, "bert")
    torch.testing.assert_close(after, before + 1.0)  # the last norm's bias shifts the last hidden state


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_gets_full_precision_adapters(dtype: torch.dtype) -> None:
    model = adapterhub.init(tiny.model("bert").to(dtype))
    model.add_adapter("a", set_active=True)
    assert all(parameter.dtype == torch.float32 for parameter in model.adapters.parameters())
    assert output(model, "bert").dtype == dtype
    model.train_adapter("a")
    output(model, "bert").sum().backward()
    assert all(parameter.grad is not None for parameter in model.adapters.parameters())


def test_autocast() -> None:
    model = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", set_active=True)
    randomise(model, "a", 0.1)
    full = output(model, "bert")
    with torch.autocast("cpu", torch.bfloat16):
        half = output(model, "bert")
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_generation_follows_the_adapter_and_the_block(family: str) -> None:
    kind = {"gpt2": "LMHeadModel", "llama": "ForCausalLM"}.get(family, "ForConditionalGeneration")
    model = adapterhub.init(tiny.model(family, kind))
    model.add_adapter("a", config="double_seq_bn[reduction_factor=4]")
    randomise(model, "a", 1.0)
    prompt = {k: v for k, v in tiny.inputs(family).items() if k in ("input_ids", "attention_mask")}
    prompt["attention_mask"] = torch.ones_like(prompt["attention_mask"])

    def generate(**kwargs: object) -> Tensor:
        return model.generate(**prompt, max_new_tokens=6, do_sample=False, pad_token_id=0, **kwargs)

    bare = generate()
    with adapterhub.AdapterSetup("a"):
        inside, beams, no_cache = generate(), generate(num_beams=3), generate(use_cache=False)
    model.set_active_adapters("a")
    assert torch.equal(inside, generate())
    assert torch.equal(beams, generate(num_beams=3))
    assert torch.equal(no_cache, inside)
    assert not torch.equal(inside, bare)


def test_static_head_trains_and_a_language_model_head_does_not() -> None:
    classifier = adapterhub.init(tiny.model("bert", "ForSequenceClassification"))
    classifier.add_adapter("a")
    classifier.train_adapter("a")
    trained = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    assert {"classifier.weight", "classifier.bias"} <= trained
    assert all(name.startswith(("adapters.a.", "classifier.")) for name in trained)
    language_model = adapterhub.init(tiny.model("llama", "ForCausalLM"))
    language_model.add_adapter("a")
    language_model.train_adapter("a")
    assert all(name.startswith("adapters.a.") for name, p in language_model.named_parameters() if p.requires_grad)


def test_refused_calls_leave_everything_as_it_was() -> None:
    model = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", set_active=True)
    model.train_adapter("a")
    state = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    mode = model.training
    refused = [
        (AdapterExistsError, "there is an adapter 'a' already", lambda: model.add_adapter("a")),
        (ConfigError, r'contains a "\."', lambda: model.add_adapter("a.b")),
        (ConfigError, "unknown configuration", lambda: model.add_adapter("b", config="nothing")),
        (ConfigError, "act nowhere", lambda: model.add_adapter("b", config="seq_bn[leave_out=[0, 1]]")),
        (
            AdapterNotFoundError,
            "no adapter named b in this model; it holds: a",
            lambda: model.set_active_adapters("b"),
        ),
        (AdapterNotFoundError, "no adapter named b", lambda: model.train_adapter(["a", "b"])),
        (AdapterNotFoundError, "no adapter named 'b'", lambda: model.delete_adapter("b")),
        (AdapterNotFoundError, "no adapter named 'b'", lambda: model.adapter_to("b", "cpu")),
        (AdapterNotFoundError, "train_adapter needs", lambda: model.train_adapter(None)),
        (CompositionError, "not 7", lambda: model.set_active_adapters(7)),
        (CompositionError, "layers 0 to 1", lambda: model.set_active_adapters("a", skip_layers=[2])),
        (CompositionError, "needs at least one", lambda: adapterhub.Stack()),
    ]
    for kind, message, call in refused:
        with pytest.raises(kind, match=message):
            call()
        assert repr(model.active_adapters) == "Stack('a')"
        assert list(model.adapters) == ["a"]
        assert model.training == mode
        for name, value in model.named_parameters():
            assert torch.equal(value, state[name][0])
            assert value.requires_grad == state[name][1]


def test_init_takes_models_alone_and_only_once() -> None:
    with pytest.raises(SiteError, match="takes a transformers model, not a Linear"):
        adapterhub.init(torch.nn.Linear(2, 2))  # type: ignore[type-var]
    model = adapterhub.init(tiny.model("bert"))
    engine = model.engine
    assert adapterhub.init(model).engine is engine
    assert type(model).__name__ == "BertModel"
    assert isinstance(model, type(tiny.model("bert")))


@pytest.mark.parametrize("family", ["distilbert", "t5"])
def test_classes_of_transformers_stay_as_they_are(family: str) -> None:
    model = tiny.model(family)
    kinds = [type(model), type(model.config), *{type(module) for module in model.modules()}]

    def contents() -> list[dict[str, Any]]:
        cache = "__slotnames__"  # which Python's copying leaves on a class
        own = [{name: value for name, value in vars(kind).items() if name != cache} for kind in kinds]
        return [*own, dict(type(model.config).attribute_map)]

    before = contents()
    adapterhub.init(model)
    model.add_adapter("a", config="mam", set_active=True)
    model(**tiny.inputs(family))
    assert contents() == before


def test_sites_described_by_hand() -> None:
    found = adapterhub.sites(tiny.model("bert"))
    model = tiny.model("bert")
    model.forward_ = model.forward
    adapterhub.init(model, sites=found)
    assert model.sites is found


def test_summary_counts() -> None:
    model = adapterhub.init(tiny.model("bert"))
    base = sum(parameter.numel() for parameter in model.parameters())
    model.add_adapter("a", config="seq_bn[reduction_factor=4]")
    model.add_adapter("b", config="double_seq_bn[reduction_factor=4]")
    model.train_adapter("b")
    size = 2 * (32 * 8 + 8 + 8 * 32 + 32)
    rows = model.adapter_summary(as_dict=True)
    assert [(row["name"], row["parameters"], row["active"], row["trained"]) for row in rows] == [
        ("a", size, False, False),
        ("b", 2 * size, True, True),
        ("Full model", base, False, False),
    ]
    assert rows[0]["percent"] == pytest.approx(100 * size / base)
    lines = str(model.adapter_summary()).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_the_name_of_an_attribute_is_a_name_like_any_other(tmp_path: Path) -> None:
    model = adapterhub.AutoModelForSequenceClassification.from_config(tiny.model("bert").config)
    model.add_adapter("train", config="seq_bn[reduction_factor=4]")
    randomise(model, "train")
    path, parameter = next(iter(model.adapters["train"].named_parameters()))
    assert model.get_parameter(f"adapters.train.{path}") is parameter
    model.save_pretrained(tmp_path)
    back = adapterhub.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(back.adapters["train"].get_parameter(path), parameter)


def test_a_checkpoint_of_an_encoder_alone_stays_one(tmp_path: Path) -> None:
    config = tiny.model("t5").config
    headed = transformers.T5ForTokenClassification(config).eval()
    headed.save_pretrained(tmp_path / "headed")
    model = adapterhub.AutoAdapterModel.from_pretrained(tmp_path / "headed").eval()
    inputs = {"input_ids": tiny.inputs("t5")["input_ids"]}
    assert type(model).__name__ == "T5EncoderAdapterModel" and model.active_head == "default"
    assert torch.equal(model(**inputs).logits, headed(**inputs).logits)
    model.save_pretrained(tmp_path / "again")
    again = adapterhub.AutoAdapterModel.from_pretrained(tmp_path / "again").eval()
    again.active_head = "default"
    assert type(again) is type(model)
    assert torch.equal(again(**inputs).logits, headed(**inputs).logits)
