import json
from pathlib import Path

import pytest
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

import tiny
from adapterhub import sites
from adapterhub.checkpoints import fingerprint_of
from adapterhub.errors import ConfigError
from adapterhub.hub.bases import Base, Origin, canonical, is_public
from adapterhub.hub.projections import FAMILIES, family_of, lacks, role_of, widths

CONFIGS = json.loads(Path(__file__).with_name("configs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "facts"),
    [  # hidden size, layers, heads, heads of keys, width of a head, inner size, vocabulary
        ("roberta-base", (768, 12, 12, 12, 64, 3072, 50265)),
        ("distilbert-base-uncased", (768, 6, 12, 12, 64, 3072, 30522)),
        ("gpt2", (768, 12, 12, 12, 64, 3072, 50257)),
        ("t5-small", (512, 12, 8, 8, 64, 2048, 32128)),
        ("facebook/bart-base", (768, 12, 12, 12, 64, 3072, 50265)),
        ("meta-llama/Meta-Llama-3-8B", (4096, 32, 32, 8, 128, 14336, 128256)),
        ("google/gemma-2b", (2048, 18, 8, 1, 256, 16384, 256000)),
        ("llava-hf/llava-1.5-7b-hf", (4096, None, 32, 32, 128, 11008, 32064)),
    ],
)
def test_configurations_of_any_architecture_are_read(name: str, facts: tuple[int | None, ...]) -> None:
    base = Base.of_config(CONFIGS[name], (name,))
    found = (base.hidden_size, base.layers, base.heads, base.kv_heads, base.head_dim, base.intermediate_size)
    assert (*found, base.vocab_size) == facts
    assert base.model_type == CONFIGS[name]["model_type"]
    assert base.deepest == (6 if base.decoder_layers else base.layers)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.MIXTURES])
def test_a_configuration_tells_what_the_model_is(family: str) -> None:
    model = tiny.model(family)
    base = Base.of_config(model.config.to_dict())
    layers = {layer.name: model.get_submodule(layer.path) for layer in sites(model).layers}
    known = Base.of_fingerprint(fingerprint_of(model, layers))
    for fact in ("model_type", "hidden_size", "layers", "vocab_size"):
        told = getattr(base, fact)
        assert told == getattr(known, fact) or (told is None and family in ("clip", "vit")), fact


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.MIXTURES])
def test_modules_are_as_wide_as_is_told(family: str) -> None:
    model = tiny.model(family)
    base = Base.of_config(model.config.to_dict())
    told = 0
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            true = tuple(module.weight.shape) if isinstance(module, nn.Embedding) else tuple(module.weight.shape)[::-1]
        elif isinstance(module, Conv1D):
            true = tuple(module.weight.shape)
        else:
            continue
        role = role_of(path)
        here = (None, None) if role is None else widths(role, base)
        assert all(one in (None, other) for one, other in zip(here, true, strict=True)) and not lacks(base, path), path
        told += here != (None, None)
    listed = family_of(model.config.model_type) is not None
    assert (told >= 5) == listed


def test_every_architecture_is_in_one_family() -> None:
    types = [model_type for family in FAMILIES for model_type in family.types]
    assert len(types) == len(set(types)) and set(types) <= set(CONFIG_MAPPING_NAMES)


@pytest.mark.parametrize("key", ["embedding_size", "input_embedding_size", "word_embed_proj_dim"])
def test_embeddings_may_be_narrower_than_the_layers(key: str) -> None:
    config = CONFIGS["roberta-base"]
    assert Base.of_config(config).embedding_size == 768
    narrow = Base.of_config(config | {key: 128})
    assert (narrow.embedding_size, narrow.hidden_size) == (128, 768)
    assert widths("embeddings", narrow) == (50265, 128) and widths("prompt", narrow) == (None, 128)


def test_facts_that_differ_from_layer_to_layer_are_unknown() -> None:
    config = CONFIGS["meta-llama/Meta-Llama-3-8B"]
    assert Base.of_config(config | {"intermediate_size": [1, 2]}).intermediate_size is None
    assert Base.of_config(config | {"hidden_size": True}).hidden_size is None
    assert Base.of_config(config | {"num_attention_heads": -1}).heads is None
    assert Base.of_config(config | {"kv_lora_rank": 8}).heads is None
    assert Base.of_config(CONFIGS["facebook/bart-base"] | {"decoder_ffn_dim": 5}).intermediate_size is None


def test_what_a_configuration_says_of_its_origin() -> None:
    config = CONFIGS["roberta-base"] | {"_name_or_path": "FacebookAI/roberta-base"}
    assert Base.of_config(config, ("roberta-base",)).lineage == ()
    assert Base.of_config(config, ("me/tuned",)).lineage == (Origin("FacebookAI/roberta-base", "finetune"),)
    assert Base.of_config(config, ("me/q",), lineage=(Origin("x/y", "quantized"),)).lineage[0].name == "x/y"
    assert Base.of_config(config | {"quantization_config": {"bits": 4}}).quantised


@pytest.mark.parametrize("config", [{}, {"peft_type": "LORA"}, {"model_type": 3}, {"hidden_size": "768"}])
def test_what_is_no_configuration_is_refused(config: dict) -> None:
    with pytest.raises(ConfigError, match="the configuration of no model"):
        Base.of_config(config)


def test_names_of_one_model_are_one() -> None:
    assert canonical("FacebookAI/roberta-base") == canonical("roberta-base") == canonical(" Roberta-Base/ ")
    assert canonical("me/roberta-base") != canonical("roberta-base")
    assert is_public("roberta-base") and is_public("me/name")
    assert not any(is_public(name) for name in ("", "/home/me/model", "./model", "C:\\models", "~/x", "a/b/c"))
