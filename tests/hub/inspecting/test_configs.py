"""Configurations: what could make a library run, fetch or open something is refused, and what peers write is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.configs import check_config, hub_name, read_config

DENIED = {
    "remote code": {"trust_remote_code": True},
    "remote code, as a text": {"trust_remote_code": "false"},
    "remote code, deep": {"a": [{"b": [[{"trust_remote_code": 1}]]}]},
    "classes of the repository": {"auto_map": {"AutoConfig": "x.Y"}},
    "a pipeline": {"custom_pipelines": {"a": {"impl": "x.Y"}}},
    "a module for PEFT": {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}},
    "a module that begins alike": {"auto_mapping": {"base_model_class": "X", "parent_library": "transformersx.y"}},
    "a relative module": {"auto_mapping": {"base_model_class": "X", "parent_library": "transformers..os"}},
    "a class that is none": {"auto_mapping": {"base_model_class": "X; import os", "parent_library": "transformers"}},
    "no module": {"auto_mapping": {"base_model_class": "X"}},
    "more in the mapping": {"auto_mapping": {"base_model_class": "X", "parent_library": "transformers", "x": 1}},
    "megatron": {"megatron_config": {"a": 1}},
    "megatron's core": {"megatron_core": "os"},
    "attention of a repository": {"_attn_implementation": "someone/kernel"},
    "attention, inside": {"text_config": {"_attn_implementation_internal": "someone/kernel"}},
    "attention, as PEFT was asked": {"attn_implementation": "kernels@main"},
    "a module": {"custom_module": "os.path"},
    "arguments with an address": {"tokenizer_kwargs": {"a": ["https://example.org/x"]}},
    "arguments with a path": {"model_kwargs": {"cache_dir": "/etc"}},
    "arguments with a home": {"kwargs": {"x": {"y": "~/.ssh"}}},
    "arguments with a parent": {"loader_kwargs": "../x"},
    "arguments with a drive": {"loader_kwargs": ["c:x"]},
    "a file of tensors": {"prompt_tuning_init_state_dict_path": "x.pt"},
    "a file of a cache": {"corda_config": {"cache_file": "x.pt"}},
    "a base that is a path": {"base_model_name_or_path": "/home/me/llama"},
    "a base in this folder": {"base_model_name_or_path": "./llama"},
    "a base deep in a folder": {"base_model_name_or_path": "runs/a/llama"},
    "a base of Windows": {"base_model_name_or_path": "C:\\models\\llama"},
    "a base that is an address": {"model_name": "https://example.org/x"},
    "a tokenizer that is a path": {"tokenizer_name_or_path": "../x"},
    "a base that is no text": {"base_model_name_or_path": ["a/b"]},
}
ALLOWED = {
    "nothing": {"trust_remote_code": False, "auto_map": None, "auto_mapping": {}, "megatron_config": None},
    "what PEFT writes": {"megatron_core": "megatron.core", "target_modules": ["q"], "modules_to_save": ["score"]},
    "a class of transformers": {
        "auto_mapping": {
            "base_model_class": "RobertaModel",
            "parent_library": "transformers.models.roberta.modeling_roberta",
        }
    },
    "attention of transformers": {"_attn_implementation": "sdpa", "_attn_implementation_autoset": True},
    "arguments": {"tokenizer_kwargs": {"use_fast": True, "padding_side": "left"}},
    "bases": {"base_model_name_or_path": "google/gemma-2-9b", "model_name": "bert-base-uncased"},
}

SIMPLE = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
VALUES = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("case", DENIED)
def test_denied(case: str) -> None:
    for values in (DENIED[case], {"config": DENIED[case]}, {"configs": [1, DENIED[case]]}):
        with pytest.raises(UploadRefusedError, match=r"here: '\w+' is .*, and "):
            check_config(values, "here")


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    check_config(ALLOWED[case], "here")
    assert read_config(json.dumps(ALLOWED[case]).encode(), "here") == ALLOWED[case]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[]", "must hold a JSON object"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": Infinity}', "no number of JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 123456789012345678901234567890}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"a": "\\ud800"}', "half of one"),
        (b'{"\\udfff": 1}', "half of one"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "32 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "here"),
        (b'{"a": 1} x', "is not JSON"),
    ],
)
def test_strict(data: bytes, why: str) -> None:
    with pytest.raises(UploadRefusedError, match=why):
        read_config(data, "here")


@given(VALUES)
def test_what_is_read_is_what_was_written(value: object) -> None:
    try:
        read = read_config(json.dumps({"a": value}).encode(), "here")
    except UploadRefusedError:
        assert "\\u0000" in json.dumps(value) or "\\ud" in json.dumps(value)
        return
    assert read == {"a": value}


@pytest.mark.parametrize("name", ["bert-base-uncased", "google/gemma-2-9b", "a/b.c_d", "x"])
def test_names_of_bases(name: str) -> None:
    assert hub_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        ".",
        "..",
        "../a",
        "~/a",
        "a\\b",
        "C:a",
        "a b",
        "ä/b",
        "a/b\n",
        "a--b/c",
        "-a/b",
        "a/.b",
    ],
)
def test_no_names_of_bases(name: str) -> None:
    assert not hub_name(name)
