"""Where an adapter sits in a transformer layer: what the picture of it on its page shows."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub.hub.inspecting.adapters import method_of
from adapterhub.hub.server.web import wording

WEIGHTS = ("q", "k", "v", "o", "up", "gate", "down")
_ON_WEIGHTS = {"lora", "dora", "adalora", "mtl_lora", "vera", "ia3", "lhuc", "lokr", "loha", "oft", "boft", "bitfit"}
_ATTENTION = re.compile(r"attn|attention")
_CROSS = re.compile(r"cross|encdec|encoder_attn", re.IGNORECASE)
_NAMES = {
    "q": {"q", "query", "q_proj", "q_lin", "wq", "to_q", "query_proj"},
    "k": {"k", "key", "k_proj", "k_lin", "wk", "to_k", "key_proj"},
    "v": {"v", "value", "v_proj", "v_lin", "wv", "to_v", "value_proj"},
    "o": {"o", "o_proj", "out_proj", "out_lin"},
    "qkv": {"qkv", "query_key_value", "c_attn", "in_proj", "wqkv", "qkv_proj"},
    "kv": {"kv"},
    "up": {"up", "up_proj", "fc1", "lin1", "wi", "wi_1", "c_fc", "dense_h_to_4h", "w1"},
    "gate": {"gate", "gate_proj", "wi_0"},
    "gate_up": {"gate_up", "gate_up_proj"},
    "down": {"down", "down_proj", "fc2", "lin2", "dense_4h_to_h", "w2"},
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}
_SEVERAL = {"qkv": ("q", "k", "v"), "kv": ("k", "v"), "gate_up": ("gate", "up")}
_WORDS = {
    "q": "queries",
    "k": "keys",
    "v": "values",
    "o": "the output of attention",
    "up": "the way into the feed-forward network",
    "gate": "its gate",
    "down": "the way out of the feed-forward network",
    "prompt": "the embedded input, before the first token",
    "embeddings": "the embeddings",
    "prefix": "keys and values, as a prefix",
    "attention": "the output of attention",
    "cross": "cross-attention",
    "feed_forward": "the output of the feed-forward network",
    "parallel": "the feed-forward network, beside it",
    "layer": "the output of the layer",
    "side": "a network beside the layer",
    "norms": "the layer norms",
}


@dataclass
class Figure:
    """The places of a layer at which an adapter acts.

    Attributes:
        method: of the adapter.
        spots: some of ``q k v o up gate down``, ``prompt``, ``embeddings``, ``prefix``, ``attention``, ``cross``,
            ``feed_forward``, ``parallel``, ``layer``, ``side`` and ``norms``.
        layers: the numbers of the layers that it acts in, as far as its tensors tell.
        depth: how many layers the base model has, or at least has to have.
    """

    method: str
    spots: set[str] = field(default_factory=set)
    layers: list[int] = field(default_factory=list)
    depth: int = 0

    @property
    def gated(self) -> bool:
        """Whether the feed-forward network of the picture has a gate."""
        return "gate" in self.spots

    @property
    def caption(self) -> str:
        """What the picture shows, in words."""
        places = _listed([words for spot, words in _WORDS.items() if spot in self.spots])
        if not places:
            return f"{wording.method(self.method)}: its files do not tell where in a layer it acts."
        text = f"{wording.method(self.method)} acts on {places}"
        if self.layers:
            all_of = len(self.layers) == self.depth
            text += f", in {'all' if all_of else len(self.layers)} {'' if all_of else 'of '}{self.depth} layers"
        return text + "."


def figure(info: Mapping[str, Any]) -> Figure:
    """The picture of what was found out about an adapter (``AdapterInfo`` as JSON)."""
    made = Figure(str(info.get("method") or ""))
    needs = [(layer, str(module)) for layer, module, *_ in info.get("needs") or ()]
    made.layers = sorted({layer for layer, _ in needs if isinstance(layer, int)})
    made.depth = max([info.get("layers") or 0, *(layer + 1 for layer in made.layers)])
    for method, config in _configs(info):
        made.spots |= _spots(method, config, [module for _, module in needs])
    return made


def role(module: str) -> str:
    """What a weight does in its layer, by its path; "" if that is not known."""
    names = module.lower().split(".")
    last = names[-1]
    if last in ("dense", "wo", "c_proj", "out"):  # which of two it is, the names before it tell
        before = ".".join(names[-3:-1])
        if last == "dense" and "intermediate" in before:
            return "up"
        in_attention = _ATTENTION.search(before) is not None or (last == "wo" and "densereludense" not in before)
        return "o" if in_attention and "mlp" not in before else "down"
    return _ROLES.get(last, "")


def _spots(method: str, config: Mapping[str, Any], modules: Iterable[str]) -> set[str]:
    if method == "bottleneck":
        return _bottleneck(config)
    if method in _ON_WEIGHTS:
        found = {part for module in modules for part in _parts(role(module)) if part}
        norms = {"norms"} if method == "bitfit" and any("norm" in one.lower() for one in modules) else set()
        return found | norms | ({"cross"} if any(_CROSS.search(one) for one in modules) else set())
    fixed = {
        "prefix_tuning": {"prefix"},
        "prompt_tuning": {"prompt"},
        "p_tuning": {"prompt"},
        "reft": {"layer"},
        "ladder": {"side"},
        "fusion": {"feed_forward"},
        "ln_tuning": {"norms"},
        "embeddings": {"embeddings"},
    }
    return fixed.get(method, set())


def _bottleneck(config: Mapping[str, Any]) -> set[str]:
    after = "parallel" if config.get("is_parallel") else "feed_forward"
    flags = {
        "attention": config.get("mh_adapter", False),
        "cross": config.get("cross_adapter", False),
        after: config.get("output_adapter", True),
        "embeddings": bool(config.get("inv_adapter")),
    }
    return {spot for spot, on in flags.items() if on}


def _parts(found: str) -> tuple[str, ...]:
    return _SEVERAL.get(found, (found,))


def _configs(info: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The methods of an adapter with their configurations: of each member, where it has several."""
    if info.get("method") == "composition":
        return [one for member in (info.get("members") or {}).values() for one in _configs(member)]
    config = info.get("config") or {}
    if not isinstance(members := config.get("configs"), list):
        return [(str(info.get("method") or ""), config)]
    # Members of a union of adapters name an architecture in the place of a method.
    return [(str(one.get("method") or method_of(one, "a union")), one) for one in members]


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
