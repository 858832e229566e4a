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

_KEY = re.compile(r"(?P<path>(?P<owner>.+?)(?:\.base_layer)*)\.(?P<leaf>lora_.+)")


def by_parameter(
    tensors: Mapping[str, Tensor], targets: Collection[str], places: Sequence[Place], folder: Path
) -> dict[str, Tensor]:
    """``tensors`` with those of wrappers under the paths of their parameters, in the shapes that they have here.

    Raises:
        CheckpointError: if it cannot be told which way matrices were stored.
        TensorMismatchError: if they do not fit the experts of this model.
    """
    owners: dict[str, list[str]] = {}
    for match in sorted(filter(None, map(_KEY.fullmatch, tensors)), key=lambda match: -len(match["path"])):
        if match["path"] not in (paths := owners.setdefault(match["owner"], [])):
            paths.append(match["path"])
    made = dict(tensors)
    wrapped: dict[str, tuple[Place, Tensor, Tensor]] = {}
    for owner, paths in owners.items():
        here = [place for place in places if place.expert_weight is not None and _same_end(_split(place)[0], owner)]
        if not here:  # a module with one weight, which is adapted as ever
            continue
        names = [f"{owner}.{_split(place)[1]}" for place in here]
        chosen = [(n, p) for n, p in zip(names, here, strict=True) if any(f".{n}".endswith(f".{t}") for t in targets)]
        if len(chosen) != len(paths):
            raise TensorMismatchError(
                f"{folder} adapts {len(paths)} parameters of {owner}, and can be read where they are "
                f"{', '.join(name for name, _ in chosen) or 'weights of experts'}"
            )
        for (name, place), path in zip(chosen, paths, strict=True):
            wrapped[name] = place, made.pop(f"{path}.lora_A.weight"), made.pop(f"{path}.lora_B.weight")
    turned = _is_turned(wrapped, folder)
    for name, (place, down, up) in wrapped.items():
        factors = _factors(place, down, up, turned)
        made |= zip((f"{name}.lora_A.weight", f"{name}.lora_B.weight"), factors, strict=True)
    return made


def _is_turned(wrapped: Mapping[str, tuple[Place, Tensor, Tensor]], folder: Path) -> bool:
    """Whether PEFT took what experts read for what they give: with transformers 4, where it is stored first."""
    found = set()
    for name, (place, down, up) in wrapped.items():
        weight = place.expert_weight
        assert weight is not None
        shape = (up.shape[0], down.shape[1])
        if shape not in (weight.shape, weight.shape[::-1]):
            raise TensorMismatchError(f"{folder}: {name} is for a weight {shape}, and it is {weight.shape} here")
        if shape != shape[::-1]:
            found.add(shape != weight.shape)
    if wrapped and len(found) != 1:
        raise CheckpointError(
            f"{folder}: from the shapes of {', '.join(wrapped)} it cannot be told which way they were stored"
        )
    return True in found


def _factors(place: Place, down: Tensor, up: Tensor, turned: bool) -> tuple[Tensor, Tensor]:
    """A ``[experts, r, in]`` and B ``[experts, out, r]``."""
    assert place.expert_weight is not None
    count = place.expert_weight.experts or 1
    down, up = down.view(count, -1, down.shape[1]), up.view(up.shape[0], -1, count).permute(2, 0, 1)
    return (up.mT.contiguous(), down.mT.contiguous()) if turned else (down, up)


def _split(place: Place) -> tuple[str, str]:
    owner, _, name = place.path.rpartition(".")
    return owner, name


def _same_end(path: str, other: str) -> bool:
    """Whether two paths are of the same module, of which one may begin with the name of the base model."""
    return f".{other}".endswith(f".{path}") or f".{path}".endswith(f".{other}")
