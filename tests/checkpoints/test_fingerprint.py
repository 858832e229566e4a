import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import adapterhub
import tiny
from adapterhub.checkpoints import fingerprint_of
from adapterhub.errors import CorruptCheckpointError
from adapterhub.fingerprint import Fingerprint, Match, compare


def fingerprint(model: PreTrainedModel, tokenizer: Any = None) -> Fingerprint:
    blocks = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    return fingerprint_of(model, {f"layers.{n}": block for n, block in enumerate(blocks)}, tokenizer)


def full(family: str = "roberta", **changes: Any) -> PreTrainedModel:
    """A model whose every number is random: ones and zeros are the same in any precision."""
    model = tiny.model(family, **changes)
    generator = torch.Generator().manual_seed(changes.get("seed", 0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05, generator=generator)
    return model


def changed(model: PreTrainedModel, change: Callable[[PreTrainedModel], object]) -> PreTrainedModel:
    twin = copy.deepcopy(model)
    with torch.no_grad():
        made = change(twin)
    return made if isinstance(made, PreTrainedModel) else twin


def fine_tuned(size: float, which: str = "") -> Callable[[PreTrainedModel], None]:
    """A step of training: every parameter (with ``which`` in its name) moves by ``size`` of itself."""

    def change(model: PreTrainedModel) -> None:
        generator = torch.Generator().manual_seed(9)
        for name, parameter in model.named_parameters():
            if which in name:
                parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))

    return change


def headed(kind: str, of: str = "Roberta") -> Callable[[PreTrainedModel], PreTrainedModel]:
    """The same weights in another class."""

    def change(model: PreTrainedModel) -> PreTrainedModel:
        settings = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
        made = getattr(tf, f"{of}{kind}")(getattr(tf, f"{of}Config")(**settings))
        missing = made.base_model.load_state_dict(model.state_dict(), strict=False).missing_keys
        assert not any("layer" in name for name in missing)
        return made

    return change


MADE = fingerprint(full())
ROUNDED = "the same weights in another precision"
OTHER = "other weights in parameters of the same shapes"


@pytest.mark.parametrize(
    ("change", "match", "reasons"),
    [
        (lambda m: m, Match.EXACT, []),
        (lambda m: m.train().requires_grad_(False), Match.EXACT, []),
        (headed("ForSequenceClassification"), Match.EXACT, []),
        (headed("ForMaskedLM"), Match.EXACT, []),
        (lambda m: m.resize_token_embeddings(120) and m, Match.EXACT, ["vocabulary 99 then, 120 here"]),
        (headed("Model", of="XLMRoberta"), Match.EXACT, ["model type 'roberta' then, 'xlm-roberta' here"]),
        (lambda m: m.bfloat16(), Match.SAME, [ROUNDED]),
        (lambda m: m.half(), Match.SAME, [ROUNDED]),
        (lambda m: m.bfloat16().float(), Match.SAME, [ROUNDED]),
        (lambda m: m.double(), Match.EXACT, []),
        (lambda m: [layer.intermediate.half() for layer in m.encoder.layer], Match.SAME, [ROUNDED]),
        (lambda m: m.to("meta"), Match.SAME, ["weights could not be compared"]),
        (fine_tuned(1e-3), Match.OTHER_WEIGHTS, [OTHER]),
        (fine_tuned(1e-6), Match.OTHER_WEIGHTS, [OTHER]),
        (fine_tuned(1e-3, "query.weight"), Match.OTHER_WEIGHTS, [OTHER]),
        (fine_tuned(1e-3, "1.output.dense.bias"), Match.OTHER_WEIGHTS, [OTHER]),
        (lambda m: fine_tuned(1e-2)(m) or m.bfloat16(), Match.OTHER_WEIGHTS, [OTHER]),
        (lambda m: fine_tuned(1e-2)(m) or m.half(), Match.OTHER_WEIGHTS, [OTHER]),
        (lambda m: full(seed=1), Match.OTHER_WEIGHTS, [OTHER]),
        (lambda m: full(seed=1, vocab_size=150), Match.OTHER_WEIGHTS, ["vocabulary 99 then, 150 here", OTHER]),
        (
            lambda m: full("xlm-roberta", seed=1, vocab_size=150),
            Match.OTHER_WEIGHTS,
            ["model type 'roberta' then, 'xlm-roberta' here", "vocabulary 99 then, 150 here", OTHER],
        ),
        (
            lambda m: full(num_hidden_layers=3),
            Match.OTHER_SHAPE,
            ["layers 2 then, 3 here"],
        ),
        (
            lambda m: full(hidden_size=64),
            Match.OTHER_SHAPE,
            ["hidden size 32 then, 64 here"],
        ),
        (lambda m: full(intermediate_size=64), Match.OTHER_SHAPE, ["parameters of other names or shapes"]),
        (
            lambda m: full("gpt2"),
            Match.OTHER_SHAPE,
            ["model type 'roberta' then, 'gpt2' here", "parameters of other names or shapes"],
        ),
    ],
)
def test_matrix(change: Callable[[PreTrainedModel], Any], match: Match, reasons: list[str]) -> None:
    base = full()
    saved, here = fingerprint(base), fingerprint(changed(base, change))
    assert compare(saved, here) == (match, tuple(reasons))
    assert compare(here, saved)[0] == match
    restored = Fingerprint.from_dict(json.loads(json.dumps(saved.to_dict())), "x")
    assert restored == saved and compare(restored, here) == compare(saved, here)


@pytest.mark.parametrize(("one", "other"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_two_halves_of_one_model(one: str, other: str) -> None:
    base = full()
    first, second = (fingerprint(copy.deepcopy(base).to(getattr(torch, name))) for name in (one, other))
    assert compare(first, second) == (Match.SAME, (ROUNDED,))


def test_a_change_that_the_probe_misses_is_no_matter_of_precision() -> None:
    saved = fingerprint(full())
    assert saved.weights is not None
    assert compare(saved, replace(saved, weights=saved.weights[:-1] + "x"))[0] == Match.OTHER_WEIGHTS


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20), st.sampled_from(["bf16", "fp16", "both"])
)
def test_any_number_is_known_again_when_it_is_rounded(numbers: list[float], how: str) -> None:
    values = torch.tensor([*numbers, 0.1])
    here = values.half().float() if how != "bf16" else values.bfloat16().float()
    saved = values.bfloat16().float() if how == "both" else values
    first = replace(MADE, weights="1:a", probe=tuple(saved.tolist()))
    second = replace(MADE, weights="1:b", probe=tuple(here.tolist()))
    assert compare(first, second)[0] == compare(second, first)[0] == Match.SAME


@given(st.floats(width=32, min_value=2.0**-10, max_value=2.0**10), st.sampled_from([-1, 1]))
def test_a_number_that_no_rounding_gives_is_another(number: float, sign: int) -> None:
    """A neighbour in bfloat16 is a step too far: numbers are rounded to the nearest."""
    nearest = torch.tensor(number).bfloat16()
    step = torch.nextafter(nearest, torch.tensor(sign * torch.inf, dtype=torch.bfloat16)).float().item()
    halfway = abs(step - number) <= abs(nearest.float().item() - number) * (1 + 1e-3)  # then either may be it
    first, second = (replace(MADE, weights=f"1:{value}", probe=(value,)) for value in (number, step))
    assert halfway or compare(first, second)[0] == compare(second, first)[0] == Match.OTHER_WEIGHTS


@pytest.mark.parametrize("kind", ["ForSequenceClassification", "ForConditionalGeneration"])
def test_layers_that_discovery_finds_are_those_of_the_base_model(kind: str) -> None:
    bare, whole = tiny.model("bart"), tiny.model("bart", kind)
    whole.base_model.load_state_dict(bare.state_dict())
    first, second = (fingerprint_of(model, adapterhub.init(model).engine.layers) for model in (bare, whole))
    assert first.layers == 4 and compare(first, second) == (Match.EXACT, ())


def test_adapters_and_heads_do_not_count() -> None:
    model = adapterhub.AutoAdapterModel.from_config(tiny.config("bert"))
    before = fingerprint_of(model, model.engine.layers)
    model.add_adapter("a", config="houlsby_2019", set_active=True)
    model.add_classification_head("a")
    model.train_adapter("a")
    assert fingerprint_of(model, model.engine.layers) == before


# What the values cover


def test_every_parameter_of_the_layers_counts_and_no_other() -> None:
    base = full()
    before = fingerprint(base)
    for name, parameter in base.named_parameters():
        with torch.no_grad():
            old = parameter.clone()
            parameter.add_(0.001)
            now = fingerprint(base)
            parameter.copy_(old)
        assert now.shape == before.shape
        assert (now.weights != before.weights) == ("encoder.layer." in name), name
    assert fingerprint(base) == before


def test_ends_of_a_parameter_and_evenly_spaced_values_count() -> None:
    """The rule that the documentation gives: value i of n, of N, is the one at i (N - 1) / (n - 1), rounded down."""
    base = full()
    before = fingerprint(base)
    weight = base.encoder.layer[0].intermediate.dense.weight.detach().view(-1)
    places = [number * (len(weight) - 1) // 63 for number in range(64)]
    for place in (*range(80), *range(len(weight) - 80, len(weight))):
        old = weight[place].item()
        weight[place] = 1.0
        assert (fingerprint(base).weights != before.weights) == (place in places), place
        weight[place] = old
    assert places[-1] == len(weight) - 1


@pytest.mark.parametrize("layers", [1, 2, 3, 6, 12, 24, 32])
def test_probe_is_spread_over_layers_and_all_kinds_of_parameters(layers: int) -> None:
    """Told by its value, each of the 16 parameters of a layer has four of the 64, and each layer about its share."""
    model = tiny.model("bert", num_hidden_layers=layers)

    def counts(mark: Callable[[int, int], int], marks: int) -> list[int]:
        for number, layer in enumerate(model.encoder.layer):
            for kind, parameter in enumerate(layer.parameters()):
                parameter.detach().fill_(mark(number, kind))
        probe = fingerprint(model).probe
        assert probe is not None and len(probe) == 64
        return [probe.count(float(value)) for value in range(marks)]

    assert counts(lambda number, kind: kind, 16) == [4] * 16
    shares = counts(lambda number, kind: number, layers)
    assert min(shares) >= 64 / layers - 3 and max(shares) <= 64 / layers + 3


def test_values_are_the_same_wherever_they_lie() -> None:
    base = full()
    turned = copy.deepcopy(base)
    for module in turned.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.detach().T.contiguous().T)  # the same matrix, by columns
    assert fingerprint(turned) == fingerprint(base)


def test_cheap_on_a_hundred_million_parameters() -> None:
    with torch.device("meta"):
        model = tf.RobertaModel(tf.RobertaConfig())
    model.to_empty(device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e8
    started = time.process_time()
    fingerprint(model)
    assert time.process_time() - started < 0.2


# Values that cannot be read


def quantised(model: PreTrainedModel) -> PreTrainedModel:
    """As a quantised model looks: weights are packed integers of another shape."""
    for module in list(model.encoder.layer.modules()):
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(
                torch.zeros(module.weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False
            )
    return model


class Packed(torch.Tensor):
    """A tensor subclass, as quantised and distributed ones are."""


def swapped(weight: torch.Tensor) -> Callable[[PreTrainedModel], None]:
    """One parameter of the last layer is another tensor."""
    return lambda model: setattr(model.encoder.layer[1].output.dense, "weight", nn.Parameter(weight))


@pytest.mark.parametrize(
    ("change", "has_shape"),
    [
        (quantised, False),
        (lambda m: setattr(m.config, "quantization_config", {"quant_method": "gptq"}), False),
        (lambda m: setattr(m, "hf_quantizer", object()), False),
        (lambda m: m.to("meta"), True),
        (swapped(torch.ones(32, 37, device="meta")), True),
        (swapped(torch.ones(32, 37).as_subclass(Packed)), True),
        (swapped(torch.ones(0)), False),
        (lambda m: m.encoder.layer[1].to(torch.float8_e4m3fn), True),
    ],
)  # fmt: skip
def test_unreadable_values_are_unknown_and_no_error(change: Callable[[PreTrainedModel], Any], has_shape: bool) -> None:
    base = full()
    saved, here = fingerprint(base), fingerprint(changed(base, change))
    assert here.weights is None and here.probe is None and (here.shape is not None) == has_shape
    assert Fingerprint.from_dict(json.loads(json.dumps(here.to_dict())), "x") == here
    for one, other in ((saved, here), (here, saved), (here, here)):
        assert compare(one, other) == (Match.SAME, ("weights could not be compared",))
    # What is known still counts: a twin is no match, nor is a deeper model.
    for other, match in (
        (full("xlm-roberta"), Match.OTHER_WEIGHTS),
        (full(vocab_size=150), Match.OTHER_WEIGHTS),
        (full(num_hidden_layers=3), Match.OTHER_SHAPE),
        (full(hidden_size=64), Match.OTHER_SHAPE),
    ):
        assert compare(fingerprint(other), here)[0] == match


def test_digests_of_an_older_scheme_are_not_compared() -> None:
    made = fingerprint(full())
    older = replace(made, shape="0:a", weights="0:b", probe=(1.0,))
    assert compare(older, made) == (Match.SAME, ("weights could not be compared",))


# Name, and tokenizer


def test_names_keep_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = full()
    base.save_pretrained(tmp_path / "my-base")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "my-base", "my-base", "./my-base", "../" + tmp_path.name + "/my-base"):
        assert fingerprint(tf.RobertaModel.from_pretrained(path)).name == "my-base"
    base.config._name_or_path = "cardiffnlp/twitter-roberta-base"
    base.config._commit_hash = "0123abc"
    made = fingerprint(base)
    assert (made.name, made.revision) == ("cardiffnlp/twitter-roberta-base", "0123abc")
    assert str(tmp_path) not in json.dumps(fingerprint(tf.RobertaModel.from_pretrained(tmp_path / "my-base")).to_dict())


def tokenizer(*words: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(("[PAD]", "[UNK]", *words))}, "[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def test_tokenizers() -> None:
    base = full()
    first = fingerprint(base, tokenizer("a", "b"))
    assert compare(first, fingerprint(base, tokenizer("a", "b"))) == (Match.EXACT, ())
    assert compare(first, fingerprint(base, tokenizer("b", "a"))) == (Match.EXACT, ("another tokenizer",))
    assert compare(first, fingerprint(base)) == (Match.EXACT, ())  # unknown is no difference
    used = tokenizer("a", "b")
    used(["a", "a b"], padding="max_length", truncation=True, max_length=4)
    assert fingerprint(base, used).tokenizer == first.tokenizer
    used.add_tokens(["c"])
    assert fingerprint(base, used).tokenizer != first.tokenizer


def test_a_tokenizer_without_a_backend_is_known_by_its_vocabulary() -> None:
    class Plain:
        def __init__(self, vocabulary: dict[str, int]) -> None:
            self.get_vocab = lambda: vocabulary

    base = full()
    made = fingerprint(base, Plain({"a": 0, "b": 1})).tokenizer
    assert made == fingerprint(base, Plain({"b": 1, "a": 0})).tokenizer
    assert made != fingerprint(base, Plain({"a": 1, "b": 0})).tokenizer


# Reading


@pytest.mark.parametrize(
    ("message", "values"),
    [
        ("'name' must be text, and is None", {"name": None}),
        ("'model_type' must be text, and is 3", {"model_type": 3}),
        ("'layers' must be a whole number, and is '2'", {"layers": "2"}),
        ("'layers' must be a whole number, and is True", {"layers": True}),
        ("'hidden_size' must be a whole number, and is 1.5", {"hidden_size": 1.5}),
        ("'vocab_size' must be a whole number or null, and is '9'", {"vocab_size": "9"}),
        ("'shape' must be text or null, and is 3", {"shape": 3}),
        ("'weights' must be text or null, and is .'a'.", {"weights": ["a"]}),
        ("'probe' must be text or null", {"probe": [1.0, 2.0]}),
        ("probe of the base model is malformed", {"probe": "not base64!"}),
        ("probe of the base model is malformed", {"probe": "AAAA"}),
        ("probe of the base model is malformed", {"probe": "ü"}),
    ],
)
def test_malformed(message: str, values: dict[str, Any]) -> None:
    with pytest.raises(CorruptCheckpointError, match=f"^the/folder: .*{message}"):
        Fingerprint.from_dict(fingerprint(full()).to_dict() | values, "the/folder")


def test_what_a_later_version_adds_is_passed_over() -> None:
    made = fingerprint(full())
    assert Fingerprint.from_dict(made.to_dict() | {"lineage": ["a"]}, "x") == made
