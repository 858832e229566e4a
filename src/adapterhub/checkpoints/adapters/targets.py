"""Which weights the LoRA of ``adapters`` reaches: queries, keys and values, one map into the feed-forward, one out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY, SWAPPED, Layout
from adapterhub.errors import CheckpointError
from adapterhub.methods import Place
from adapterhub.methods.targets import TargetsConfig

C = TypeVar("C", bound=TargetsConfig)

# Of a VeRA, which keeps two matrices for all weights where a Compacter keeps what its weights share.
SHARED = f"shared_parameters.{ANY}.lora_"

_KEY = re.compile(rf"(?P<path>.+)\.loras\.\{ANY}\..+")
# Options of what ``adapters`` takes for a kind of LoRA, beside those that say where it acts.
PLAIN = {
    "architecture": "lora",
    "r": 1,
    "alpha": 1,
    "dropout": 0.0,
    "composition_mode": "add",
    "init_weights": "lora",
    "init_weights_seed": None,
    "use_gating": False,
    "use_dora": False,
    "vera_d": None,
    "vera_b": None,
    "dtype": None,
}
_FLAGS = {"intermediate": "intermediate_lora", "output": "output_lora"}


def owns(key: str) -> bool:
    """Whether a tensor is that of a LoRA, or of what ``adapters`` takes for one."""
    return f".loras.{ANY}." in key or key.startswith(SHARED)


def stems(given: Mapping[str, Any], layout: Layout) -> set[str]:
    """What the keys of tensors begin with at the weights that these options choose."""
    chosen = set(given.get("attn_matrices", ("q", "v"))) if given.get("selfattn_lora") else set()
    chosen |= {kind for kind, flag in _FLAGS.items() if given.get(flag)}
    places = [place for place in layout.weights.values() if place.layer not in (given.get("leave_out") or ())]
    made = {f"{place.path}.loras.{ANY}." for place in places if _kind(place, layout) in chosen}
    return made | ({SHARED} if given.get("vera_d") is not None or given.get("vera_b") is not None else set())


def targets(config: C, found: Mapping[str, Tensor], layout: Layout) -> tuple[list[Place], C]:
    """The places that the tensors of a file are for, and the configuration that acts there.

    Raises:
        TensorMismatchError: if a path is none of this model's.
    """
    paths = dict.fromkeys(match["path"] for match in map(_KEY.fullmatch, found) if match is not None)
    chosen = [place for path in paths for place in layout.parts(path, config.attn_matrices, "the adapter")]
    names = {place.name for place in chosen}
    if {place.name for place in layout.weights.values() if config.acts_at(place)} != names:  # roles mean others there
        named = dict.fromkeys(place.role if not place.whole else place.path for place in chosen)
        config = config.replace(target_modules=tuple(named))
    return chosen, config


def reached(sites: Iterable[str], layout: Layout) -> dict[str, Any]:
    """The options by which ``adapters`` acts at these sites and at no others.

    Raises:
        CheckpointError: if there are none.
    """
    chosen = [layout.weights[site] for site in sites]
    kinds = {place.name: _kind(place, layout) for place in layout.weights.values()}
    if strange := [place.path for place in chosen if kinds[place.name] is None]:
        raise CheckpointError(
            f"the LoRA of adapters reaches queries, keys, values and two maps of the feed-forward, not {strange[0]}. "
            "Save in the format of adapterhub or of PEFT."
        )
    wanted = {kinds[place.name] for place in chosen}
    layers = {place.layer for place in chosen}
    names = {place.name for place in chosen}
    for place in layout.weights.values():
        if kinds[place.name] in wanted and place.layer in layers and place.name not in names:
            raise CheckpointError(
                f"the LoRA of adapters would act on {place.path} too: it knows kinds of weights and whole layers. "
                "Save in the format of adapterhub or of PEFT."
            )
    matrices = [role for role in "qkv" if role in wanted]
    return {
        "selfattn_lora": bool(matrices),
        "attn_matrices": matrices or ["q", "v"],
        **{flag: kind in wanted for kind, flag in _FLAGS.items()},
        "leave_out": [layer.index for layer in layout.sites.layers if layer.index not in layers],
    }


def fused_in_thirds(parts: Sequence[Place], layout: Layout) -> None:
    """Pass parts of a fused weight which ``adapters`` takes for its first, second and last third, as they are.

    Raises:
        CheckpointError: if they stand in another order in this model.
    """
    for place in parts:
        if place.whole or place.weight is None:
            continue
        whole = next(one.weight for one in layout.weights.values() if one.path == place.path and one.whole)
        assert whole is not None
        size = whole.shape[0] // 3
        first = size * "qkv".index(place.role)
        if not torch.equal(place.weight.select(torch.arange(whole.shape[0])), torch.arange(first, first + size)):
            raise CheckpointError(
                f"{place.path}: adapters takes the thirds of this weight for queries, keys and values, which stand "
                "in another order in it"
            )


def _kind(place: Place, layout: Layout) -> str | None:
    """What ``adapters`` calls a weight: ``q``, ``k``, ``v``, ``intermediate`` or ``output``."""
    if place.layer is None:
        return None
    if place.role in ("q", "k", "v"):
        return place.role
    if not place.whole or (place.role == "gate_up" and layout.model_type != "modernbert"):
        return None
    kinds = {"up": "intermediate", "gate_up": "intermediate", "down": "output"}
    if layout.model_type in SWAPPED:
        kinds = {"up": "output", "down": "intermediate"}
    return kinds.get(place.role)
