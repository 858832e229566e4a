"""What PEFT trained at parameters, not modules (``target_parameters``): the weights of experts.

Where several parameters of one module are adapted, wrappers stand in one another: the first parameter's is the
innermost, and each that is further in has one more ``base_layer`` in its path. The factors of all experts stand in one
matrix: A is ``[experts * r, in]``, and B ``[out, r * experts]`` with the experts side by side in each step of r.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from adapterhub.errors import CheckpointError, TensorMismatchError
from adapterhub.methods import Place

_INNER = re.compile(r"(\.base_layer)*$")
Parts = Mapping[str, Mapping[str, Tensor]]


def by_parameter(parts: Parts, targets: Collection[str], places: Sequence[Place], folder: Path) -> Parts:
    """``parts`` with those of wrappers under the paths of their parameters, in the shapes that they have here.

    Raises:
        CheckpointError: if it cannot be told which way matrices were stored.
        TensorMismatchError: if they do not fit the experts of this model.
    """
    owners: dict[str, list[str]] = {}
    for path in sorted(parts, key=len, reverse=True):
        owners.setdefault(_INNER.sub("", path), []).append(path)
    made: dict[str, Mapping[str, Tensor]] = {}
    wrapped: dict[str, tuple[Place, Mapping[str, Tensor]]] = {}
    for owner, paths in owners.items():
        here = [place for place in places if place.expert_weight is not None and _same_end(_split(place)[0], owner)]
        if not here:  # a module with one weight, which is adapted as ever
            made |= {path: parts[path] for path in paths}
            continue
        names = [f"{owner}.{_split(place)[1]}" for place in here]
        chosen = [(n, p) for n, p in zip(names, here, strict=True) if any(f".{n}".endswith(f".{t}") for t in targets)]
        if len(chosen) != len(paths):
            raise TensorMismatchError(
                f"{folder} adapts {len(paths)} parameters of {owner}, and can be read where they are "
                f"{', '.join(name for name, _ in chosen) or 'weights of experts'}"
            )
        wrapped |= {name: (place, parts[path]) for (name, place), path in zip(chosen, paths, strict=True)}
    turned = _is_turned(wrapped, folder)
    return made | {name: _factors(place, tensors, turned) for name, (place, tensors) in wrapped.items()}


def _is_turned(wrapped: Mapping[str, tuple[Place, Mapping[str, Tensor]]], folder: Path) -> bool:
    """Whether PEFT took what experts read for what they give: with transformers 4, where it is stored first."""
    found = set()
    for name, (place, tensors) in wrapped.items():
        weight = place.expert_weight
        assert weight is not None
        shape = (tensors["lora_B"].shape[0], tensors["lora_A"].shape[1])
        if shape not in (weight.shape, weight.shape[::-1]):
            raise TensorMismatchError(f"{folder}: {name} is for a weight {shape}, and it is {weight.shape} here")
        if shape != shape[::-1]:
            found.add(shape != weight.shape)
    if wrapped and len(found) != 1:
        raise CheckpointError(
            f"{folder}: from the shapes of {', '.join(wrapped)} it cannot be told which way they were stored"
        )
    return True in found


def _factors(place: Place, tensors: Mapping[str, Tensor], turned: bool) -> dict[str, Tensor]:
    """A ``[experts, r, in]`` and B ``[experts, out, r]``."""
    assert place.expert_weight is not None
    down, up, count = tensors["lora_A"], tensors["lora_B"], place.expert_weight.experts or 1
    down, up = down.view(count, -1, down.shape[1]), up.view(up.shape[0], -1, count).permute(2, 0, 1)
    return {"lora_A": up.mT.contiguous(), "lora_B": down.mT.contiguous()} if turned else {"lora_A": down, "lora_B": up}


def _split(place: Place) -> tuple[str, str]:
    owner, _, name = place.path.rpartition(".")
    return owner, name


def _same_end(path: str, other: str) -> bool:
    """Whether two paths are of the same module, of which one may begin with the name of the base model."""
    return f".{other}".endswith(f".{path}") or f".{path}".endswith(f".{other}")
