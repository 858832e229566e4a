import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from adapterhub import sites
from adapterhub.checkpoints import fingerprint_of
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.bases import Base, Origin
from adapterhub.hub.compatibility import Flag, Level, Need, Requirement, contradictions, verdict

CONFIGS = json.loads(Path(__file__).with_name("configs.json").read_text(encoding="utf-8"))
NAME = "FacebookAI/roberta-base"
TUNED = (Origin(NAME, "finetune"),)
PACKED = (Origin(NAME, "quantized"),)


def full(family: str = "roberta", **changes: Any) -> PreTrainedModel:
    """A model whose every number is random."""
    model = tiny.model(family, **changes)
    generator = torch.Generator().manual_seed(changes.get("seed", 0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05, generator=generator)
    return model


def fingerprint(model: PreTrainedModel, name: str, tokenizer: Any = None) -> Fingerprint:
    layers = {layer.name: model.get_submodule(layer.path) for layer in sites(model).layers}
    return replace(fingerprint_of(model, layers, tokenizer), name=name)


def tuned(model: PreTrainedModel) -> PreTrainedModel:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return model


def headed(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights under the prefix ``roberta.``."""
    made = type(tiny.model("roberta", "ForMaskedLM"))(model.config)
    made.roberta.load_state_dict(model.state_dict(), strict=False)
    return made


MODEL = full()
# What a LoRA of all projections asks for.
NEEDS = tuple(
    Need(layer, f"roberta.encoder.layer.{layer}.{module}", inputs, outputs)
    for layer in range(2)
    for module, inputs, outputs in (
        ("attention.self.query", 32, 32),
        ("intermediate.dense", 32, 37),
        ("output.dense", 37, 32),
    )
)
ADAPTER = Requirement.of_fingerprint(fingerprint(MODEL, NAME), NEEDS)
DECLARED = replace(ADAPTER, fingerprint=None)  # the same, of which no fingerprint was saved


@pytest.mark.parametrize(
    ("change", "name", "lineage", "level", "declared", "flags"),
    [
        (lambda m: m, "roberta-base", (), Level.EXACT, Level.SAME_BASE, ()),
        (lambda m: m, "me/copy", (), Level.EXACT, Level.SHAPE, ()),
        (headed, "roberta-base", (), Level.EXACT, Level.SAME_BASE, ()),
        (lambda m: m.bfloat16(), "roberta-base", (), Level.SAME_BASE, Level.SAME_BASE, ()),
        (lambda m: m.half(), "me/half", (), Level.SAME_BASE, Level.SHAPE, ()),
        (lambda m: m.bfloat16().float(), "me/half", PACKED, Level.SAME_BASE, Level.SAME_BASE, ()),
        (
            lambda m: m.resize_token_embeddings(120) and m,
            "roberta-base",
            (),
            Level.EXACT,
            Level.SAME_BASE,
            (Flag.VOCABULARY_RESIZED,),
        ),
        (tuned, "me/tuned", TUNED, Level.DERIVED, Level.DERIVED, ()),
        (tuned, "me/tuned", (), Level.SHAPE, Level.SHAPE, ()),
        (tuned, "roberta-base", (), Level.DERIVED, Level.SAME_BASE, ()),
        (lambda m: full(seed=1), "other/roberta", (), Level.SHAPE, Level.SHAPE, ()),
        (
            lambda m: full("xlm-roberta", seed=1, vocab_size=999),
            "FacebookAI/xlm-roberta-base",
            (),
            Level.SHAPE,
            Level.SHAPE,
            (Flag.TOKENIZER_MISMATCH,),
        ),
        (
            lambda m: full("xlm-roberta", seed=1, vocab_size=999),
            "roberta-base",
            (),
            Level.SHAPE,
            Level.SHAPE,
            (Flag.TOKENIZER_MISMATCH,),
        ),
        (
            lambda m: full(hidden_size=64, num_hidden_layers=3),
            "roberta-base",
            (),
            Level.INCOMPATIBLE,
            Level.INCOMPATIBLE,
            (),
        ),
        (lambda m: full(num_hidden_layers=1), "roberta-base", TUNED, Level.INCOMPATIBLE, Level.INCOMPATIBLE, ()),
        (lambda m: full(intermediate_size=64), "roberta-base", (), Level.INCOMPATIBLE, Level.INCOMPATIBLE, ()),
        (lambda m: full("gpt2"), "gpt2", (), Level.INCOMPATIBLE, Level.INCOMPATIBLE, ()),
        (lambda m: full("llama"), "x/llama", TUNED, Level.INCOMPATIBLE, Level.INCOMPATIBLE, ()),
    ],
)
def test_matrix(
    change: Callable[[PreTrainedModel], PreTrainedModel],
    name: str,
    lineage: tuple[Origin, ...],
    level: Level,
    declared: Level,
    flags: tuple[Flag, ...],
) -> None:
    model = change(copy.deepcopy(MODEL))
    config = model.config.to_dict() | {"_name_or_path": None}
    base = Base.of_config(config, (name,), fingerprint=fingerprint(model, name), lineage=lineage)
    found = verdict(ADAPTER, base)
    assert (found.level, tuple(flag for flag in found.flags if flag != Flag.BY_DECLARATION)) == (level, flags)
    assert verdict(DECLARED, base).level == verdict(ADAPTER, replace(base, fingerprint=None)).level == declared
    assert found.reasons


def base(name: str, **changes: Any) -> Base:
    """A published base model, of which the configuration is known and no weights are."""
    return replace(Base.of_config(CONFIGS[name], (name,)), **changes)


def lora(name: str, layers: int, hidden: int, *modules: str) -> Requirement:
    """What a LoRA of PEFT tells: the name of its base model, and what it acts on."""
    wanted = modules or ("attention.self.query",)
    places = ((layer, module) for layer in range(layers) for module in wanted)
    needs = (Need(layer, f"roberta.encoder.layer.{layer}.{module}", hidden, hidden) for layer, module in places)
    return Requirement(base=name, needs=tuple(needs))


@pytest.mark.parametrize(
    ("name", "level", "reason"),
    [
        (
            "roberta-base",
            Level.SAME_BASE,
            "the adapter was trained on FacebookAI/roberta-base, and the base is called so; weights could not be "
            "compared",
        ),
        (
            "roberta-large",
            Level.INCOMPATIBLE,
            "layer 11: the query projection is 768 x 768 in the adapter, 1024 x 1024 in the base",
        ),
        (
            "gpt2",
            Level.INCOMPATIBLE,
            "layer 11: the adapter acts on roberta.encoder.layer.11.attention.self.query, and a 'gpt2' has no module "
            "of that name",
        ),
        (
            "distilroberta-base",
            Level.INCOMPATIBLE,
            "layer 6: the adapter has weights for it, and the base has 6 layers",
        ),
        (
            "xlm-roberta-base",
            Level.SHAPE,
            "the adapter was trained on FacebookAI/roberta-base, and the base is xlm-roberta-base: "
            "the shapes fit, no more",
        ),
    ],
)
def test_an_adapter_that_tells_only_its_tensors(name: str, level: Level, reason: str) -> None:
    adapter = lora(NAME, 12, 768)
    adapter = replace(adapter, needs=(adapter.needs[11], *adapter.needs[:11]))  # eight are listed
    found = verdict(adapter, base(name))
    assert found.level is level and reason in found.reasons
    assert level is not Level.INCOMPATIBLE or len(found.reasons) < 10


def test_places_beyond_the_longest_list_are_counted() -> None:
    found = contradictions(lora("roberta-base", 12, 768), base("roberta-large"))
    assert len(found) == 9 and found[-1] == "and 4 more places do not fit"


@pytest.mark.parametrize(
    ("then", "here"),
    [("roberta-base", "xlm-roberta-base"), ("xlm-roberta-base", "roberta-base"), ("roberta-base", "bert-base-uncased")],
)
def test_models_of_the_same_shapes_are_told_apart_without_weights(then: str, here: str) -> None:
    trained = base(then)
    known = Requirement(
        base=then, model_type=trained.model_type, hidden_size=768, layers=12, vocab_size=trained.vocab_size
    )
    for one in (known, replace(known, base=None), replace(known, model_type=None), replace(known, vocab_size=None)):
        found = verdict(one, base(here))
        assert found.level is Level.SHAPE
        assert (Flag.TOKENIZER_MISMATCH in found.flags) == (one.vocab_size is not None)
    # By the wrong name the type tells them apart, and without the type the vocabulary.
    assert verdict(known, base(here, names=(then,))).level is Level.SHAPE
    assert verdict(replace(known, vocab_size=None), base(here, names=(then,))).level is Level.SHAPE
    assert verdict(replace(known, model_type=None), base(here, names=(then,))).level is Level.SHAPE
    assert verdict(known, trained).level is Level.SAME_BASE


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        ("gpt2", "the adapter is for models of type 'roberta', and the base is a 'gpt2', whose modules are others"),
        ("facebook/bart-base", "is a 'bart'"),
        ("meta-llama/Meta-Llama-3-8B", "the hidden size is 768 in the adapter, 4096 in the base"),
        ("roberta-large", "the number of layers is 12 in the adapter, 24 in the base"),
    ],
)
def test_what_does_not_fit_is_named(here: str, reason: str) -> None:
    adapter = Requirement(base="roberta-base", model_type="roberta", hidden_size=768, layers=12)
    found = verdict(adapter, base(here))
    assert found.level is Level.INCOMPATIBLE and any(reason in one for one in found.reasons)


def test_projections_of_grouped_queries_and_fused_ones_are_known() -> None:
    llama, gpt2 = base("meta-llama/Meta-Llama-3-8B"), base("gpt2")
    key = Need(3, "model.layers.3.self_attn.k_proj", 4096, 1024)
    assert contradictions(Requirement(needs=(key,)), llama) == ()
    assert contradictions(Requirement(needs=(key._replace(gives=4096),)), llama) == (
        "layer 3: the key projection is 4096 x 4096 in the adapter, 4096 x 1024 in the base",
    )
    fused = Need(0, "transformer.h.0.attn.c_attn", 768, 2304)
    assert contradictions(Requirement(needs=(fused,)), gpt2) == ()
    assert contradictions(Requirement(needs=(fused._replace(gives=1536),)), gpt2) == ()  # queries and values alone
    assert contradictions(Requirement(needs=(fused._replace(reads=512), Need(0, "q", None, 5))), gpt2) == (
        "layer 0: the projection of queries, keys and values is 512 x 2304 in the adapter, 768 x 2304 in the base",
        "layer 0: the query projection is ? x 5 in the adapter, 768 x 768 in the base",
    )
    assert contradictions(Requirement(needs=(Need(None, "prompt_embeddings", None, 512),)), gpt2) == (
        "the prompt is ? x 512 in the adapter, ? x 768 in the base",
    )
    assert contradictions(Requirement(needs=(Need(2, "layers.2.attention", 4096, 4096),)), llama) == ()
    assert contradictions(Requirement(needs=(Need(2, "layers.2.attention", 768, 768),)), llama) == (
        "layer 2: the output is 768 x 768 in the adapter, 4096 x 4096 in the base",
    )
    prefix = Requirement(needs=(Need(2, "layers.2.attention", None, 2048),))
    assert contradictions(prefix, llama) == () and verdict(prefix, llama).level is Level.INCOMPATIBLE


def test_embeddings_that_were_resized_are_reported() -> None:
    adapter = replace(lora("roberta-base", 12, 768), needs=(Need(None, "embeddings.word_embeddings", 50270, 768),))
    found = verdict(adapter, base("roberta-base"))
    assert found.level is Level.SAME_BASE and Flag.VOCABULARY_RESIZED in found.flags
    assert "the adapter has weights for 50270 tokens, and the base has 50265: resize its embeddings first" in (
        found.reasons
    )


def test_embeddings_of_another_width_do_not_fit() -> None:
    adapter = replace(lora("roberta-base", 12, 768), needs=(Need(None, "embeddings.word_embeddings", 50265, 512),))
    assert contradictions(adapter, base("roberta-base")) == (
        "the embedding of the tokens is 50265 x 512 in the adapter, 50265 x 768 in the base",
    )


def test_another_revision_is_the_same_base_and_is_told() -> None:
    adapter = replace(ADAPTER, revision="a" * 40)
    here = fingerprint(tuned(copy.deepcopy(MODEL)), "roberta-base")
    moved = replace(Base.of_fingerprint(here), revision="b" * 40)
    found = verdict(adapter, moved)
    assert found.level is Level.SAME_BASE and found.flags == (Flag.REVISION_DRIFT,)
    assert verdict(adapter, replace(moved, revision="a" * 40)).level is Level.DERIVED
    same = replace(moved, fingerprint=adapter.fingerprint)
    assert verdict(adapter, same).level is Level.EXACT and Flag.REVISION_DRIFT in verdict(adapter, same).flags


def test_weights_that_cannot_be_read_are_those_of_the_name() -> None:
    packed = replace(fingerprint(MODEL, "roberta-base"), shape=None, weights=None, probe=None, vocab_size=100)
    found = verdict(ADAPTER, Base.of_fingerprint(packed))
    assert (found.level, found.flags) == (Level.SAME_BASE, (Flag.BY_DECLARATION, Flag.VOCABULARY_RESIZED))


def test_weights_say_more_than_types_and_less_than_shapes() -> None:
    same = Base.of_fingerprint(replace(fingerprint(MODEL, "x/y"), model_type="new"))
    assert verdict(ADAPTER, same).level is Level.EXACT
    wider = Base.of_fingerprint(fingerprint(full(intermediate_size=64), NAME))
    found = verdict(replace(ADAPTER, needs=()), wider)
    assert found.level is Level.INCOMPATIBLE
    assert found.reasons == ("the layers of the base have parameters of other names or shapes than those trained on",)


def test_what_was_made_of_what_is_followed() -> None:
    adapter = lora(NAME, 12, 768)
    chain = (Origin("me/tuned", "quantized"), Origin(NAME, "finetune"), Origin("x/older", "finetune"))
    packed = base("roberta-base", names=("me/tuned-4bit",), lineage=chain, quantised=True)
    found = verdict(adapter, packed)
    assert (found.level, found.flags) == (Level.DERIVED, (Flag.BY_DECLARATION, Flag.QUANTISED))
    assert "the base was made (finetune) of FacebookAI/roberta-base, which the adapter was trained on" in found.reasons
    assert verdict(replace(adapter, base="me/tuned"), packed).level is Level.SAME_BASE
    # Trained on a quantised copy of the base, or on another one of the same.
    trained = replace(adapter, base="me/roberta-4bit", lineage=PACKED)
    assert verdict(trained, base("roberta-base")).level is Level.SAME_BASE
    assert verdict(trained, base("roberta-base", names=("x/8bit",), lineage=PACKED)).level is Level.SAME_BASE
    # Trained on a fine-tune of the base: nobody says that it works on the base.
    further = replace(adapter, base="me/tuned", lineage=TUNED)
    assert verdict(further, base("roberta-base")).level is Level.SHAPE
    # Names that say nothing.
    assert (
        verdict(replace(adapter, base="/home/me/x"), base("roberta-base", names=("/home/me/x",))).level is Level.SHAPE
    )


def test_another_tokenizer_is_told() -> None:
    tokenizers = [
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, word: 1}, unk_token="a")))
        for word in ("b", "c")
    ]
    one, other = (fingerprint(MODEL, NAME, tokenizer) for tokenizer in tokenizers)
    assert verdict(Requirement.of_fingerprint(one), Base.of_fingerprint(one)).flags == ()
    found = verdict(Requirement.of_fingerprint(one), Base.of_fingerprint(other))
    assert (found.level, found.flags) == (Level.EXACT, (Flag.TOKENIZER_MISMATCH,))


def test_nothing_is_known_and_nothing_is_promised() -> None:
    for adapter, here in ((Requirement(), Base()), (ADAPTER, Base(names=("x/y",))), (Requirement(base="x/y"), Base())):
        found = verdict(adapter, here)
        assert found.level is Level.INCOMPATIBLE and found.flags == (Flag.UNCHECKED,)


PRINTS = {
    "": fingerprint(MODEL, NAME),
    "rounded": fingerprint(copy.deepcopy(MODEL).bfloat16(), NAME),
    "tuned": fingerprint(tuned(copy.deepcopy(MODEL)), NAME),
    "other": fingerprint(full(seed=1), NAME),
}
FACTS = ("base", "revision", "fingerprint", "model_type", "hidden_size", "layers", "vocab_size")


@given(
    st.sampled_from(["", "rounded", "tuned", "other"]),
    st.sampled_from(["roberta-base", "me/other"]),
    st.sampled_from([(), TUNED, PACKED]),
    st.sets(st.sampled_from(FACTS)),
    st.sets(st.sampled_from([*FACTS[1:], "names", "lineage"])),
)
def test_what_is_unknown_never_lifts_a_verdict(
    weights: str, name: str, lineage: tuple[Origin, ...], forgotten: set[str], missing: set[str]
) -> None:
    """Of weights that differ a declaration may say less than they do; all else that is forgotten lowers the level."""
    here = Base.of_fingerprint(replace(PRINTS[weights], name=name), lineage)
    unknown = {"names": (), "lineage": ()}
    told = verdict(ADAPTER, here).level
    less = verdict(
        replace(ADAPTER, **dict.fromkeys(forgotten)), replace(here, **{key: unknown.get(key) for key in missing})
    ).level
    assert less is not Level.EXACT or told is Level.EXACT
    weights_known = not {"fingerprint"} & (forgotten | missing)
    assert less <= told or not weights_known
