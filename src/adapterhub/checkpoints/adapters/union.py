"""Unions as ``adapters`` keeps them: the options of every member, and the tensors of all of them together.

It has one member at a place, so that a tensor is that of the member which acts where the tensor is kept. Its 1.3 takes
several bottlenecks at places of their own, and one of anything else; its 1.0 took several LoRAs too.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters.kinds import BOTTLENECK, LORA, Given, Kind, Tensors, kind_of, written
from adapterhub.checkpoints.adapters.layout import ANY, Layout
from adapterhub.checkpoints.entries import Content
from adapterhub.errors import CheckpointError

UNION = "union"
_SHARED = f"shared_parameters.{ANY}."  # one dictionary for an adapter, whichever members fill it
Written = tuple[dict[str, Any], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class _Member:
    """Options, and the tensors found for them; ``stems`` as of ``Kind``, None where the kind alone tells."""

    given: Given
    kind: Kind
    stems: Set[str] | None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def acts_at(self, key: str) -> bool:
        return self.stems is None or key.startswith(tuple(self.stems))

    @property
    def acts_nowhere(self) -> bool:
        return self.stems is not None and not self.stems and not self.tensors


def divided(options: Sequence[Given], found: Tensors, layout: Layout) -> list[tuple[Given, Tensors]]:
    """Those of the members' ``options`` that act anywhere in this model, with their tensors.

    Raises:
        CheckpointError: if two members claim a tensor, which are named, or for a method that cannot be read.
    """
    kinds = [kind_of(one) for one in options]
    stems = [kind.stems and kind.stems(one, layout) for one, kind in zip(options, kinds, strict=True)]
    members = [_Member(*of_one) for of_one in zip(options, kinds, stems, strict=True)]
    for key, tensor in found.items():
        owners = [member for member in members if member.kind.owns(key)]
        if len(owners) > 1:
            owners = [member for member in owners if member.acts_at(key)]
        if len(owners) > 1:
            both = _named(options, [members.index(owner) for owner in owners])
            raise CheckpointError(f"{both} of this union both act at {key.replace(f'.{ANY}', '')}")
        for owner in owners:
            owner.tensors[key] = tensor
    return [(member.given, member.tensors) for member in members if not member.acts_nowhere]


def union(content: Content, layout: Layout) -> Written:
    """Options and tensors of a union.

    Raises:
        CheckpointError: for one that ``adapters`` refuses, or of whose members it has no equal.
    """
    parts = [written(member, layout) for _, member in content.members()]
    options = [given for given, _ in parts]
    for pair in combinations(range(len(parts)), 2):
        if reason := _conflict(*(parts[index] for index in pair)):
            raise CheckpointError(
                f"{_named(options, pair)} of this union: adapters {reason}. Save in the format of adapterhub."
            )
    return {"architecture": UNION, "configs": options}, {key: one for _, own in parts for key, one in own.items()}


def _conflict(one: Written, other: Written) -> str | None:
    """What ``adapters`` does that two members cannot be in one union; None if they can."""
    (given, tensors), (others, other_tensors) = one, other
    kind = kind_of(given)
    if all(any(key.startswith(_SHARED) for key in keys) for keys in (tensors, other_tensors)):
        return "keeps what weights share for one member alone"
    if kind is not kind_of(others):
        return None
    if kind is LORA:
        return (
            "has one LoRA, VeRA or (IA)³ in a union. What acts on weights alone can be made one LoRA (convert_adapter)"
        )
    if kind is not BOTTLENECK:
        return "has one of this kind in a union"
    if both := sorted(tensors.keys() & other_tensors.keys()):
        return f"has one bottleneck at a place, and both have {both[0].replace(f'.{ANY}', '')}"
    if given["phm_layer"] and others["phm_layer"]:
        return "has one Compacter in a union"
    apart = all(given[name] != others[name] for name in ("mh_adapter", "output_adapter"))
    if not (apart or given["leave_out"] or others["leave_out"]):
        return "takes two bottlenecks that leave out no layers if they differ in mh_adapter and output_adapter"
    return None


def _named(members: Sequence[Mapping[str, Any]], indices: Sequence[int]) -> str:
    """Members by number and method."""
    return "members " + " and ".join(f"{at} ({members[at].get('architecture') or 'bottleneck'})" for at in indices)
