"""Layer-norm tuning as PEFT writes it: a copy of each norm."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout, shortest, simplest
from adapterhub.methods.layer_norm import LayerNormConfig

OWNER = re.compile(r"(?P<path>.+?)\.ln_tuning_layers\.(?P<leaf>.+)")


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return OWNER.fullmatch(key) is not None


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> LayerNormConfig:
    """The configuration that acts as the ``given`` one."""
    paths = {match["path"] for match in map(OWNER.fullmatch, found) if match is not None}
    exact = LayerNormConfig(target_modules=tuple(sorted(paths)))
    short = LayerNormConfig(target_modules=shortest(given.get("target_modules"), paths))
    return simplest((LayerNormConfig(), short), exact, layout.places)


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    paths = {layout.by_name[name.partition(".norm.")[0]].path for name in content.tensors}
    options = {"peft_type": "LN_TUNING", "target_modules": layout.targets(paths)}
    return options, to_theirs(entries(content, layout), content.tensors)


def entries(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """Every tensor, by both names."""
    for name in content.tensors:
        site, _, leaf = name.rpartition(".norm.")
        yield same(f"{layout.by_name[site].path}.ln_tuning_layers.{leaf}", name)
