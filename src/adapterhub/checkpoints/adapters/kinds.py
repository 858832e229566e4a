"""What ``adapters`` calls an architecture, by its name there and by the methods here."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters import bottleneck, lora, prefix, prompt, reft, targets
from adapterhub.checkpoints.adapters.layout import Layout
from adapterhub.checkpoints.entries import Content
from adapterhub.errors import CheckpointError
from adapterhub.methods import AdapterConfig

Given = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """One architecture, in both directions.

    ``config`` makes a configuration of options, tensors, the layout and the whole JSON file; ``read`` the tensors of an
    adapter of that configuration; ``write`` options and tensors. ``owns`` tells its tensors from those of others by
    their keys; ``stems`` what the keys begin with at the places that some options choose, None for a kind of which
    ``adapters`` never took two in a union.
    """

    config: Callable[[Given, Tensors, Layout, Given], AdapterConfig]
    read: Callable[[Content, Tensors, Layout, str], dict[str, Tensor]]
    write: Callable[[Content, Layout], tuple[dict[str, Any], dict[str, Tensor]]]
    owns: Callable[[str], bool]
    stems: Callable[[Given, Layout], Set[str]] | None = None


BOTTLENECK = Kind(bottleneck.config, bottleneck.read, bottleneck.write, bottleneck.owns, bottleneck.stems)
LORA = Kind(lora.config, lora.read, lora.write, targets.owns, targets.stems)
PREFIX = Kind(prefix.config, prefix.read, prefix.write, lambda key: "prefix_tuning." in key)
PROMPT = Kind(prompt.config, prompt.read, prompt.write, lambda key: "prompt_tuning." in key)
REFT = Kind(reft.config, reft.read, reft.write, lambda key: ".refts." in key)
_ARCHITECTURES: Mapping[str | None, Kind] = {
    None: BOTTLENECK,
    "lora": LORA,
    "mtl_lora": LORA,
    "prefix_tuning": PREFIX,
    "prompt_tuning": PROMPT,
    "reft": REFT,
}
_METHODS = {
    "bottleneck": BOTTLENECK,
    "lora": LORA,
    "mtl_lora": LORA,
    "vera": LORA,
    "ia3": LORA,
    "prefix_tuning": PREFIX,
    "prompt_tuning": PROMPT,
    "reft": REFT,
}


def kind_of(given: Given) -> Kind:
    """The kind that options are of.

    Raises:
        CheckpointError: for one that is not known.
    """
    name = given.get("architecture")
    if name not in _ARCHITECTURES:
        raise CheckpointError(f"it is of the method {name!r}, which cannot be read")
    return _ARCHITECTURES[name]


def written(content: Content, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors of an adapter that is no union.

    Raises:
        CheckpointError: for a method, or an option, of which ``adapters`` has no equal.
    """
    kind = _METHODS.get(content.config.method)
    if kind is None:
        raise CheckpointError(
            f"adapters has no equal of the method {content.config.method!r}: save in the format of adapterhub"
        )
    options, tensors = kind.write(content, layout)
    return renumbered(options, layout.numbers), tensors


def renumbered(given: Given, numbers: Mapping[int, int]) -> dict[str, Any]:
    """Options that name other layers: ``numbers`` says which, for those that were named."""
    made = dict(given)
    for name in ("leave_out", "layers"):
        if isinstance(given.get(name), list | tuple):
            made[name] = [numbers.get(layer, layer) for layer in given[name]]
    if isinstance(factors := given.get("reduction_factor"), Mapping):
        by_text = {str(one): str(other) for one, other in numbers.items()}
        made["reduction_factor"] = {by_text.get(layer, layer): factor for layer, factor in factors.items()}
    return made
