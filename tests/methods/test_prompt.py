"""The configuration of prompt tuning, and what a prompt starts as. What it does to a model: ``tests/engine``."""

from typing import Any

import pytest
import torch

import adapterhub
import tiny
from adapterhub import PromptTuningConfig
from adapterhub.errors import ConfigError
from adapterhub.methods import load_config


def made(**options: Any) -> torch.Tensor:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("p", config=PromptTuningConfig(**options))
    assert list(model.adapters["p"].state_dict()) == ["prompt.prompt_embedding.weight"]
    return model.adapters["p"].at("prompt")().detach()


def test_defaults_are_those_of_the_peer_and_of_the_paper() -> None:
    config = load_config("prompt_tuning")
    assert config == PromptTuningConfig() == load_config(config.to_dict())
    options = ("prompt_length", "prompt_init", "prompt_init_text", "random_uniform_scale", "combine")
    assert [getattr(config, name) for name in options] == [10, "random_uniform", None, 0.5, "prefix"]


def test_random_starts() -> None:
    values = made(prompt_length=400)
    assert values.shape == (400, 32) and 0.49 < values.abs().max() <= 0.5 and values.mean().abs() < 0.02
    assert 0.09 < made(prompt_length=400, random_uniform_scale=0.1).abs().max() <= 0.1
    assert 0.95 < made(prompt_length=400, prompt_init="random_normal").std() < 1.05


@pytest.mark.parametrize("init", ["random_uniform", "random_normal", "sample_vocab"])
def test_a_seed_decides(init: Any) -> None:
    first, again = (made(prompt_init=init, init_weights_seed=1) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, made(prompt_init=init, init_weights_seed=2))


def test_of_the_vocabulary_and_of_tokens() -> None:
    table = tiny.model("bert").get_input_embeddings().weight
    sampled = made(prompt_length=6, prompt_init="sample_vocab")
    assert all((row == table).all(dim=1).any() for row in sampled)
    tokens = {"prompt_init": "from_string", "prompt_init_ids": [7, 8, 9]}
    assert torch.equal(made(prompt_length=5, **tokens), table[[7, 8, 9, 7, 8]])
    assert torch.equal(made(prompt_length=2, **tokens), table[[7, 8]])


def test_scaled_tables_give_what_the_model_reads() -> None:
    model: Any = adapterhub.init(tiny.model("bart", scale_embedding=True))
    model.add_adapter("p", config="prompt_tuning[prompt_length=1, prompt_init=from_string, prompt_init_ids=[5]]")
    wanted = model.encoder.embed_tokens(torch.tensor([5]))
    assert torch.equal(model.adapters["p"].at("prompt")(), wanted)
    assert not torch.equal(wanted[0], model.encoder.embed_tokens.weight[5])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("prompt_length=0", "prompt_length"),
        ("random_uniform_scale=0", "random_uniform_scale"),
        ("prompt_init=zeros", "sample_vocab"),
        ("combine=suffix", "prefix_after_bos"),
        ("insert_at=end", "embedding_output"),
        ("prompt_init=from_string", "prompt_init_ids"),
        ("length=3", "no option length"),
    ],
)
def test_values_out_of_range_are_refused(options: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(f"prompt_tuning[{options}]")


def test_layers_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match="leave_out"):
        PromptTuningConfig().leaving_out([0])
