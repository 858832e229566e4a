"""Where PEFT keeps what: its files, and the modules that its names stand for.

A tensor's name holds the path of a module of the base model: ``base_model.model.bert.encoder.layer.0...lora_A.weight``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from torch import Tensor

from adapterhub.checkpoints.entries import alignment
from adapterhub.checkpoints.renamed import to_here
from adapterhub.errors import TensorMismatchError
from adapterhub.methods import Place

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


class Acting(Protocol):
    """A configuration that says of each place whether, and how, it acts there."""

    def acts_at(self, place: Place, /) -> object:
        """What it does there; nothing, if it does not act."""


C = TypeVar("C", bound=Acting)


@dataclass(frozen=True)
class PeftLayout:
    """What the names of PEFT stand for in one model.

    Attributes:
        places: of the model.
        modules: the paths of all its modules.
        model_type: of the base model.
    """

    places: Sequence[Place]
    modules: Sequence[str] = ()
    model_type: str = ""

    @cached_property
    def by_path(self) -> dict[str, Place]:
        """The places of whole weights and of norms by the paths of their modules, of experts by those of parameters."""
        found = {place.path: place for place in self.places if place.norm is not None and place.path}
        return found | {place.path: place for place in self.places if place.any_weight is not None and place.whole}

    @cached_property
    def by_name(self) -> dict[str, Place]:
        """All places by name."""
        return {place.name: place for place in self.places}

    def whole(self, place: Place) -> Place:
        """The place of the whole weight that a part stands in."""
        return next(one for one in self.places if one.path == place.path and one.whole and one.weight is not None)

    def aligned(
        self, found: Mapping[str, Tensor], owner: re.Pattern[str], where: object, base: Any
    ) -> dict[str, Tensor]:
        """Tensors under keys with paths of this model.

        Raises:
            TensorMismatchError: if a path is none of this model's.
        """
        found = {to_here(key, self.model_type): tensor for key, tensor in found.items()}
        paths = {key: match["path"] for key in found if (match := owner.fullmatch(key)) is not None and match["path"]}
        change = alignment(paths.values(), self.by_path.keys())
        strange = sorted(path for path in paths.values() if change(path) not in self.by_path)
        if strange:
            raise TensorMismatchError(
                f"{where} adapts modules that this model has not: {', '.join(strange[:5])}. Load the base model that "
                f"it was made for ({base or 'not named'})."
            )
        return {
            change(paths[key]) + key.removeprefix(paths[key]) if key in paths else key: tensor
            for key, tensor in found.items()
        }

    def targets(self, paths: Iterable[str]) -> list[str]:
        """Names of modules by which PEFT finds these and no others: the last part of their paths, or the whole."""
        chosen = set(paths)
        short = sorted({path.rpartition(".")[2] for path in chosen})
        if {path for path in self.modules if path.rpartition(".")[2] in short} == chosen:
            return short
        return sorted(chosen)


def shortest(names: Any, paths: Iterable[str]) -> tuple[str, ...]:
    """The names of a checkpoint where they are a list, else paths."""
    return tuple(sorted(names)) if isinstance(names, list) else tuple(sorted(paths))


def check_targets(given: Mapping[str, Any], origin: Mapping[str, str], layout: PeftLayout, where: object) -> None:
    """Pass a checkpoint with tensors for every module that it says it acts on; ``origin`` has those that there are.

    Raises:
        TensorMismatchError: naming the modules without.
    """
    added = next((there.removesuffix(here) for here, there in origin.items() if there.endswith(here)), "")
    kinds = {layout.by_path[path].kind for path in origin}
    layers = given.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers
    missing = [
        path
        for path, place in layout.by_path.items()
        if path not in origin
        and place.kind in kinds
        and _named(added + path, given.get("target_modules"))
        and not _named(added + path, given.get("exclude_modules"))
        and not any(f".{name}." in f".{path}." for name in given.get("modules_to_save") or ())
        and (layers is None or place.layer in layers)
    ]
    if missing:
        raise TensorMismatchError(
            f"{where}: {len(missing)} modules are named by target_modules, and their tensors are missing from the "
            f"checkpoint: {', '.join(missing[:5])}. Copy it again."
        )


def _named(path: str, targets: Any) -> bool:
    """PEFT's rule: a list of ends of paths, or a regular expression for whole ones."""
    if isinstance(targets, str):
        return targets != "all-linear" and re.fullmatch(targets, path) is not None
    return any(f".{path}".endswith(f".{name}") for name in targets or ())


def simplest(candidates: Iterable[C], exact: C, places: Iterable[Place]) -> C:
    """The first configuration that acts where ``exact`` does: paths say it exactly, names in a line."""
    wanted = [(place, exact.acts_at(place)) for place in places]
    return next((one for one in candidates if all(one.acts_at(place) == acts for place, acts in wanted)), exact)
