"""Where the picture of an adapter says that it sits: checked against the modules that its tensors are for."""

import pytest

import adapterhub
import tiny
from adapterhub.hub.inspecting import inspect
from adapterhub.hub.server.web.figure import figure, role
from hub.server.web import demo
from uploads import files, opener

METHODS = {
    "lora": {"q", "v"},
    "lora[selfattn_lora=False,intermediate_lora=True,output_lora=True]": {"up", "down"},
    "lora[attn_matrices=['q','k','v','o']]": {"q", "k", "v", "o"},
    "ia3": {"k", "v", "down"},
    "seq_bn": {"feed_forward"},
    "double_seq_bn": {"attention", "feed_forward"},
    "par_bn": {"parallel"},
    "seq_bn_inv": {"feed_forward", "embeddings"},
    "prefix_tuning": {"prefix"},
    "prompt_tuning": {"prompt"},
    "loreft": {"layer"},
    "lst": {"side"},
    "mam": {"prefix", "parallel"},
    "unipelt": {"prefix", "feed_forward", "q", "v"},
}

_NOT_IN_ADAPTERS = ["lora[attn_matrices=['q','k','v','o']]", "ia3", "prompt_tuning", "lst"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = adapterhub.init(tiny.model("roberta"))
    model.config._name_or_path = "hub/tiny"
    made = tmp_path_factory.mktemp("methods")
    for number, config in enumerate(METHODS):
        model.add_adapter(f"a{number}", config)
        for form in ("adapterhub",) if config in _NOT_IN_ADAPTERS else ("adapterhub", "adapters"):
            model.save_adapter(made / form / str(number), f"a{number}", format=form)
    return made


@pytest.mark.parametrize("form", ["adapterhub", "adapters"])
def test_each_method_is_where_its_configuration_puts_it(folder, form: str) -> None:
    layers = tiny.config("roberta").num_hidden_layers
    for number, (config, spots) in enumerate(METHODS.items()):
        if not (folder / form / str(number)).exists():
            assert form == "adapters" and config in _NOT_IN_ADAPTERS
            continue
        found = inspect(files(folder / form / str(number)))
        assert found is not None
        shown = figure(found.to_dict())
        assert shown.spots == spots, config
        if (
            form == "adapterhub" and config != "prompt_tuning"
        ):  # a file of adapters does not tell the layers of prefixes
            assert shown.layers == list(range(layers)), config


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("roberta.encoder.layer.0.attention.self.query", "q"),
        ("roberta.encoder.layer.0.attention.output.dense", "o"),
        ("roberta.encoder.layer.0.intermediate.dense", "up"),
        ("roberta.encoder.layer.0.output.dense", "down"),
        ("transformer.h.3.attn.c_attn", "qkv"),
        ("transformer.h.3.attn.c_proj", "o"),
        ("transformer.h.3.mlp.c_proj", "down"),
        ("model.layers.7.self_attn.o_proj", "o"),
        ("model.layers.7.mlp.gate_proj", "gate"),
        ("encoder.block.0.layer.0.SelfAttention.o", "o"),
        ("encoder.block.0.layer.1.DenseReluDense.wo", "down"),
        ("gpt_neox.layers.1.attention.dense", "o"),
        ("model.decoder.layers.1.encoder_attn.out_proj", "o"),
        ("layers.0.attention.q", "q"),
        ("some.module.of.nobody", ""),
    ],
)
def test_what_a_weight_does_is_told_by_its_path(path: str, expected: str) -> None:
    assert role(path) == expected


def test_layers_that_are_left_out_are_not_in_the_picture() -> None:
    given = {name: opener(data) for name, data in demo.lora("roberta-base", layers=4).items()}
    found = inspect(given)
    assert found is not None
    shown = figure({**found.to_dict(), "layers": 12})
    assert (shown.layers, shown.depth) == ([0, 1, 2, 3], 12)
    assert shown.caption == "LoRA acts on queries and values, in 4 of 12 layers."


def test_what_is_not_known_is_not_drawn() -> None:
    assert figure({"method": "future", "config": {"a": 1}, "needs": []}).spots == set()
    assert "do not tell" in figure({}).caption
