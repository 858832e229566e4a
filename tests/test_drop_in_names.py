"""Every public name of ``adapters`` 1.3.0, and every argument that it takes there (``golden/adapters_api.json``)."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import adapterhub
import tiny
from adapterhub import AutoAdapterModel

API = json.loads((Path(__file__).parent / "golden" / "adapters_api.json").read_text())
# What has no meaning here, and what stands in its place: ``docs/from-adapters.md``.
ABSENT = {
    "ADAPTER_CACHE": "what is fetched is kept in ADAPTERHUB_HOME",
    "AdapterLayerBase": "a method is one class, registered by an entry point",
    "ComposableAdapterLayerBase": "a method is one class, registered by an entry point",
    "ForwardContext": "what a call asks for is an argument of the call",
    "MultiTaskConfig": "any adapters of one configuration share what share_parameters says",
    "init_adapters_config": "adapterhub.init",
    "add_base_adapters": "internal",
    "add_invertible_adapter": "a part of the adapter, added with it",
    "average_head": "a model of transformers has one head",
    "delete_invertible_adapter": "a part of the adapter, deleted with it",
    "forward_context": "internal",
    "head_type": "register_custom_head",
    "post_embedding_forward": "internal",
    "set_shared_parameters": "internal",
    "support_lora_delta_w_svd": "supports_adapter",
    "support_prompt_tuning": "supports_adapter",
    "use_pooler": "an option of a head",
    "prepare_inputs_for_generation": "of transformers, where a model generates",
    "config_class": "of transformers",
}
_LORA = {"architecture", "composition_mode", "vera_d", "vera_b", "dtype"}
_REFT = {"architecture", "dtype", "output_reft"}
_VERA = {"architecture", "alpha", "composition_mode", "init_weights", "use_gating", "dtype"}
_HEAD = {"model", "head_name"}
_IA3 = set(API["module"]["IA3Config"]) - {"leave_out"}
# Arguments that have no meaning here, or another name: ``docs/from-adapters.md``.
OTHERWISE = {
    "AdapterInfo": set(API["module"]["AdapterInfo"]),  # nobody makes one but a hub
    "DiReftConfig": _REFT,
    "LoReftConfig": _REFT,
    "NoReftConfig": _REFT,
    "ReftConfig": _REFT,
    "DoRAConfig": _LORA,
    "LoRAConfig": _LORA,
    "MTLLoRAConfig": _LORA,
    "DvoRAConfig": _VERA,
    "VeraConfig": _VERA,
    "IA3Config": _IA3,
    "PrefixTuningConfig": {"architecture"},
    "PromptTuningConfig": {"architecture"},
    "init_adapters": {"model_config", "adapters_config"},
}
# Heads are made by ``model.add_..._head``; their classes are for isinstance.
HEADS = {name for name in API["module"] if name.endswith("Head") and name != "PredictionHead"}
OF_MODULE = sorted(set(API["module"]) - ABSENT.keys())


def accepts(thing: Any) -> tuple[set[str], bool]:
    """Names of the arguments that something takes, and whether it takes any others."""
    parameters = inspect.signature(thing).parameters
    more = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return set(parameters), more


def missing(thing: Any, wanted: list[str], name: str) -> set[str]:
    own, more = accepts(thing)
    return set() if more else set(wanted) - own - OTHERWISE.get(name, set())


@pytest.mark.parametrize("name", OF_MODULE)
def test_names_of_the_module(name: str) -> None:
    thing, wanted = getattr(adapterhub, name), API["module"][name]
    if wanted is None or name in HEADS or name.endswith("AdapterModel") or name in ("AdapterType", "AdapterMethod"):
        return
    assert missing(thing, wanted, name) == set()


@pytest.mark.parametrize("kind", ["model", "base", "flexible"])
def test_methods_of_models(kind: str) -> None:
    model: Any = {
        "model": lambda: adapterhub.init(tiny.model("bert", "ForMaskedLM")),
        "base": lambda: adapterhub.init(tiny.model("bert")),
        "flexible": lambda: AutoAdapterModel.from_config(tiny.config("bert")),
    }[kind]()
    expected = {name: wanted for name, wanted in API[kind].items() if name not in ABSENT}
    assert [name for name in expected if not hasattr(model, name)] == []
    lacking = {
        name: found
        for name, wanted in expected.items()
        if wanted is not None and (found := missing(getattr(model, name), wanted, name))
    }
    assert lacking == {}


def test_names_in_submodules() -> None:
    from adapterhub import composition, heads

    blocks = ["Average", "BatchSplit", "Fuse", "MultiTask", "Parallel", "Split", "Stack"]
    assert all(hasattr(composition, name) for name in [*blocks, "parse_composition", "validate_composition"])
    assert all(hasattr(heads, name) for name in ("PredictionHead", "MultiHeadOutput", "ClassificationHead"))


def test_configurations_by_name() -> None:
    names = set(API["configurations"])
    assert len(names) == 28 and names <= set(adapterhub.ADAPTER_CONFIG_MAP)
    assert set(adapterhub.ADAPTERFUSION_CONFIG_MAP) == {"static", "dynamic"}


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_exceptions_are_exceptions(name: str) -> None:
    """An entry that is there by now has to go."""
    model: Any = AutoAdapterModel.from_config(tiny.config("bert"))
    everywhere = {"average_head", "prepare_inputs_for_generation", "config_class"}  # on some models alone, or not ours
    assert name in everywhere or not (hasattr(adapterhub, name) or hasattr(model, name))


# What makes DiReFT of a ReFT is not written.
WRITTEN = sorted(set(API["configurations"]) - {"direft"})


@pytest.mark.parametrize("name", WRITTEN)
def test_configurations_as_adapters_writes_them(name: str, tmp_path: Path) -> None:
    written = API["configurations"][name]
    loaded = adapterhub.AdapterConfig.load(written)
    assert loaded == adapterhub.ADAPTER_CONFIG_MAP[name]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"config": written, "name": name}))
    assert adapterhub.load_config(tmp_path / "adapter_config.json") == loaded


def test_configurations_without_equal() -> None:
    ia3, vera = API["configurations"]["ia3"], API["configurations"]["vera"]
    for wrong in (ia3 | {"attn_matrices": ["q"]}, vera | {"alpha": 2}, {"architecture": "lora", "dtype": "float16"}):
        with pytest.raises(adapterhub.errors.ConfigError):
            adapterhub.load_config(wrong)
