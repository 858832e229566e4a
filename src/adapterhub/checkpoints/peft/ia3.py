"""(IA)³ as PEFT writes it: a column for what is given, a row for what is read."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.entries import Content, Entry, from_theirs, to_theirs
from adapterhub.checkpoints.peft.layout import PeftLayout, shortest, simplest
from adapterhub.methods.ia3 import IA3Config

OWNER = re.compile(r"(?P<path>.+?)\.ia3_l")


def owns(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the adapter, and not of another module that was trained."""
    return OWNER.fullmatch(key) is not None


def config(
    given: Mapping[str, Any], found: Mapping[str, Tensor], layout: PeftLayout, origin: Mapping[str, str]
) -> IA3Config:
    """The configuration that acts as the ``given`` one: the paper's, where that is it."""
    rows = {key.removesuffix(".ia3_l"): len(tensor) == 1 for key, tensor in found.items()}
    exact = IA3Config(
        target_modules=tuple(sorted(rows)), feedforward_modules=tuple(sorted(path for path in rows if rows[path]))
    )
    inputs = [path for path, row in rows.items() if row]
    short = IA3Config(
        target_modules=shortest(given.get("target_modules"), rows),
        feedforward_modules=shortest(given.get("feedforward_modules"), inputs),
    )
    return simplest((IA3Config(), short), exact, layout.places)


def read(
    content: Content, found: Mapping[str, Tensor], layout: PeftLayout, given: Mapping[str, Any], what: str
) -> dict[str, Tensor]:
    """The tensors of an adapter of this configuration."""
    return from_theirs(entries(content, layout), found, what)


def write(content: Content, layout: PeftLayout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors."""
    listed = list(entries(content, layout))
    paths = [entry.key.removesuffix(".ia3_l") for entry in listed]
    tensors = to_theirs(listed, content.tensors)
    rows = [path for path, entry in zip(paths, listed, strict=True) if len(tensors[entry.key]) == 1]
    names, inputs = layout.targets(paths), layout.targets(rows)
    if not set(inputs) <= set(names):  # as PEFT wants it
        names, inputs = sorted(paths), sorted(rows)
    options = {"peft_type": "IA3", "target_modules": names, "feedforward_modules": inputs, "init_ia3_weights": True}
    return options, tensors


def entries(content: Content, layout: PeftLayout) -> Iterator[Entry]:
    """Every tensor, by both names; parts of one weight are together there, and ones between them."""
    assert isinstance(content.config, IA3Config)
    sites = [layout.by_name[site] for site in content.sites("scale")]
    for path in dict.fromkeys(place.path for place in sites):
        here = [place for place in sites if place.path == path]
        names = tuple(f"{place.name}.scale" for place in here)
        if here[0].whole:
            read_there = content.config.acts_at(here[0]) == "input"
            yield _line(f"{path}.ia3_l", names, (1, -1) if read_there else (-1, 1))
            continue

        def join(tensors: Any, here: Any = here) -> Tensor:
            whole = layout.whole(here[0])
            assert whole.weight is not None
            total = torch.ones(whole.weight.shape[0])
            for place, tensor in zip(here, tensors, strict=True):
                total = place.weight.replace(total, tensor.float())
            return total[:, None]

        def split(tensor: Tensor, here: Any = here) -> list[Tensor]:
            return [place.weight.select(tensor.flatten()) for place in here]

        yield Entry(f"{path}.ia3_l", names, split, join)


def _line(key: str, names: tuple[str, ...], shape: tuple[int, int]) -> Entry:
    return Entry(key, names, lambda tensor: (tensor.flatten(),), lambda tensors: tensors[0].view(shape))
