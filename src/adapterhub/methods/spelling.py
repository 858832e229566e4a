"""Configurations as ``adapters`` writes them, in the words of this library."""

from collections.abc import Mapping
from typing import Any

from adapterhub.errors import ConfigError

_TELLING = ("architecture", "mh_adapter", "output_adapter")  # a configuration of adapters has one of these
# Options with another place here, or none, by the value that changes nothing.
_WITHOUT_EFFECT = {
    "composition_mode": "add",
    "vera_d": None,
    "vera_b": None,
    "dtype": None,
    "output_reft": True,
    "inv_adapter_reduction_factor": None,
}
_PLACES = ("selfattn_lora", "intermediate_lora", "output_lora", "attn_matrices", "leave_out")
_OF_VERA = (*_PLACES, "r", "vera_d", "vera_b", "dropout", "use_dora", "init_weights_seed")


def in_own_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary of fields with their ``method``, from one of this library or of ``adapters``.

    That is a configuration as ``AdapterConfig.to_dict`` gives it there, or the content of an ``adapter_config.json``.

    Raises:
        ConfigError: for an option that has no equal.
    """
    if isinstance(inner := values.get("config"), Mapping):
        return in_own_words(inner)
    if "method" in values or not any(name in values for name in _TELLING):
        return dict(values)
    given = dict(values)
    method = given.pop("architecture", None) or "bottleneck"
    if method == "lora" and given.get("composition_mode") == "scale":
        return _ia3(given)
    if method == "lora" and given.get("init_weights") == "vera":
        return _vera(given)
    kept = {name: value for name, value in given.items() if _WITHOUT_EFFECT.get(name, ()) != value}
    return {"method": method, **kept}


def _ia3(given: Mapping[str, Any]) -> dict[str, Any]:
    usual = set(given.get("attn_matrices", "kv")) == {"k", "v"} and given.get("intermediate_lora", True)
    if not usual or given.get("output_lora") or given.get("use_gating"):
        raise ConfigError(f"an (IA)³ that acts elsewhere than in the paper has no equal here: {dict(given)}")
    return {"method": "ia3", "leave_out": given.get("leave_out", ())}


def _vera(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("use_gating") or given.get("alpha", given.get("r")) != given.get("r"):
        raise ConfigError(f"a VeRA with gates, or with alpha other than r, has no equal here: {dict(given)}")
    return {"method": "vera"} | {name: given[name] for name in _OF_VERA if name in given}
