"""Configurations of strangers: JSON whose keys make no library import, run or fetch anything."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.strict_json import parse_object

_LIBRARIES = ("transformers", "diffusers")
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_CLASS = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_PART = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_NAMES_A_BASE = ("base_model_name_or_path", "tokenizer_name_or_path", "model_name", "backbone")


def read_config(data: bytes, where: str) -> dict[str, Any]:
    """The object in a configuration, which holds nothing that is denied.

    Raises:
        UploadRefusedError: for what is no strict JSON, or holds a key that could run code or lead elsewhere.
    """
    values = parse_object(data, where)
    check_config(values, where)
    return values


def check_config(values: Any, where: str) -> None:
    """Pass a configuration without what some library takes for code, an address, or a file of this machine.

    Raises:
        UploadRefusedError: naming the key, why, and what to do.
    """
    for key, value in _entries(values):
        if value is None or value in (False, "", [], {}):
            continue
        for matches, allowed, why in _DENIED:
            if matches(key) and not allowed(value):
                raise UploadRefusedError(f"{where}: {key!r} is {_short(value)}, and {why}.")


def hub_name(name: str) -> bool:
    """Whether a base model is named as on a hub: ``name`` or ``owner/name``, no path and no address."""
    parts = name.split("/")
    return len(parts) <= 2 and all(_PART.fullmatch(part) and ".." not in part and "--" not in part for part in parts)


def _entries(values: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at every depth."""
    rest = [values]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            yield from one.items()
            rest += one.values()
        elif isinstance(one, list):
            rest += one


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for _, inner in _entries({"": value}):
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, str):
                yield one


def _leads_elsewhere(text: str) -> bool:
    return "://" in text or "\\" in text or text.startswith(("/", "~", "./", "../")) or text[1:2] == ":"


def _is_library_class(value: Any) -> bool:
    """Whether this is the ``auto_mapping`` that PEFT writes of a model of transformers or diffusers."""
    if not isinstance(value, dict) or not value.keys() <= {"base_model_class", "parent_library"}:
        return False
    library, name = value.get("parent_library"), value.get("base_model_class")
    parts = library.split(".") if isinstance(library, str) else [""]
    return (
        parts[0] in _LIBRARIES
        and all(_CLASS.fullmatch(part) for part in parts)
        and (name is None or (isinstance(name, str) and _CLASS.fullmatch(name) is not None))
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _never(value: Any) -> bool:
    return False


_RUNS = "it makes a library import code that came with the file: take it out"
_DENIED: tuple[tuple[Callable[[str], bool], Callable[[Any], bool], str], ...] = (
    (lambda key: key in ("trust_remote_code", "auto_map", "custom_pipelines", "custom_generate"), _never, _RUNS),
    (
        lambda key: key == "auto_mapping",
        _is_library_class,
        "it makes PEFT import a module: only classes of transformers and diffusers are taken. Take it out, or set "
        "task_type in its place",
    ),
    (lambda key: key == "megatron_config", _never, _RUNS),
    (lambda key: key.startswith("megatron_"), lambda value: value == "megatron.core", _RUNS),
    (
        lambda key: key.lstrip("_").startswith("attn_implementation"),
        lambda value: value is True or value in _ATTENTION,
        f"it can name code to fetch: only {', '.join(_ATTENTION)} are taken. Take it out",
    ),
    (lambda key: key.endswith("_module"), _never, _RUNS),
    (
        lambda key: key.endswith("kwargs"),
        lambda value: not any(_leads_elsewhere(text) for text in _texts(value)),
        "arguments with addresses or paths in them are not taken: take them out",
    ),
    (
        lambda key: key in ("prompt_tuning_init_state_dict_path", "cache_file", "covariance_file"),
        _never,
        "it names a file of the machine that the adapter was made on: take it out",
    ),
    (
        lambda key: key in _NAMES_A_BASE,
        lambda value: isinstance(value, str) and hub_name(value),
        "nobody else has a model there: write the name that the model has on a hub, 'owner/name'",
    ),
)
