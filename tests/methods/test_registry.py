"""Configurations from objects, names, strings, dictionaries and files."""

import json
from pathlib import Path

import pytest

from adapterhub.errors import ConfigError
from adapterhub.methods import AdapterConfig, load_config, named_configs
from adapterhub.methods.bottleneck import BottleneckConfig, SeqBnConfig
from adapterhub.methods.registry import register


def test_the_same_configuration_by_every_way(tmp_path: Path) -> None:
    wanted = SeqBnConfig(reduction_factor=8, non_linearity="gelu")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(wanted.to_dict()))
    strings = ["seq_bn[reduction_factor=8, non_linearity=gelu]", "pfeiffer[reduction_factor=8,non_linearity='gelu']"]
    ways = [wanted, *strings, wanted.to_dict(), file, str(file)]
    for way in ways:
        assert load_config(way) == wanted  # type: ignore[arg-type]
        assert hash(load_config(way)) == hash(wanted)  # type: ignore[arg-type]
    assert load_config("seq_bn", reduction_factor=8, non_linearity="gelu") == wanted
    assert load_config(None) == SeqBnConfig() != wanted


def test_literals_of_every_kind() -> None:
    config = load_config("double_seq_bn[leave_out=[0, 2], reduction_factor={'0': 4, 'default': 16}, use_gating=True]")
    assert isinstance(config, BottleneckConfig)
    assert config.leave_out == (0, 2)
    assert config.reduction_factor == {"0": 4, "default": 16}
    assert config.use_gating is True


def test_bare_words_are_texts_in_lists_too() -> None:
    config = load_config("lora[target_modules=[q, o_proj], init_weights=pissa]")
    assert (config.target_modules, config.init_weights) == (("q", "o_proj"), "pissa")
    assert load_config("lora[target_modules=all-linear]").target_modules == "all-linear"
    assert load_config("lora[alpha=-1]").alpha == -1


@pytest.mark.parametrize("name", named_configs())
def test_every_named_configuration_survives_json(name: str) -> None:
    config = load_config(name)
    assert load_config(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sq_bn", r"unknown configuration 'sq_bn'\. Known: .*seq_bn"),
        ("seq_bn[reduction=4]", "no option reduction. Its options: mh_adapter"),
        ("seq_bn[8]", "malformed options"),
        ("seq_bn[reduction_factor=open('x')]", "malformed options"),
        ("seq_bn[reduction_factor=8", "malformed configuration"),
        ({"reduction_factor": 8}, "names its method"),
        ({"method": "magic"}, "says 'magic'"),
        (7, "not int"),
        ("nowhere.json", "could not be read"),
    ],
)
def test_what_is_wrong_is_said(source: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "must hold a JSON object")])
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


def test_a_method_that_does_nothing_is_not_registered() -> None:
    class Nothing(AdapterConfig):
        method = "nothing"

    with pytest.raises(ConfigError, match="Nothing defines neither build nor modules"):
        register(Nothing, {})
    with pytest.raises(ConfigError, match="'nothing'"):
        load_config({"method": "nothing"})
