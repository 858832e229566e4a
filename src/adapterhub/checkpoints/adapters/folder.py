"""Folders of ``adapters``: an adapter, a head, a fusion, each a JSON file with a file of tensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters import heads
from adapterhub.checkpoints.adapters.kinds import Given, Tensors, kind_of, renumbered, written
from adapterhub.checkpoints.adapters.layout import (
    ADAPTER,
    ANY,
    BUILT_IN,
    BY_INTERFACE,
    FUSION,
    HEAD,
    WEIGHTS,
    Layout,
)
from adapterhub.checkpoints.adapters.union import UNION, divided, union
from adapterhub.checkpoints.entries import Content, Entry, from_theirs, same, to_theirs
from adapterhub.checkpoints.foreign import json_bytes, read_json, read_tensors
from adapterhub.checkpoints.tensors import encode_plainly
from adapterhub.errors import CheckpointError, CorruptCheckpointError
from adapterhub.methods import AdapterConfig
from adapterhub.methods.union import ConfigUnion

VERSION = "adapters.1.3.0"  # of the format that is written


@dataclass(frozen=True)
class AdaptersCheckpoint:
    """One file of weights, and what is said of it, from a folder of ``adapters``.

    Attributes:
        folder: where it is.
        content: its JSON file.
        tensors: by their names there.
    """

    folder: Path
    content: Given
    tensors: Tensors

    @property
    def name(self) -> str:
        """Of the adapter, head or fusion."""
        return str(self.content.get("name") or self.folder.resolve().name.replace(".", "-"))

    def config(self, layout: Layout) -> AdapterConfig:
        """The configuration that acts as this adapter does.

        Raises:
            CheckpointError: for a method, or an option, of which this library has no equal.
            TensorMismatchError: for a tensor that belongs to no place in this model.
        """
        _check_base(layout)
        found = layout.aligned(self.tensors, self.folder)
        made = [kind_of(given).config(given, own, layout, self.content) for given, own in self._parts(found, layout)]
        return ConfigUnion(*made) if self._is_union else made[0]

    def read(self, content: Content, layout: Layout) -> dict[str, Tensor]:
        """The tensors of this adapter by their names here; ``content`` is that of a new one of its configuration.

        Raises:
            TensorMismatchError: if some are missing or left over.
        """
        found = layout.aligned(self.tensors, self.folder)
        parts = self._parts(found, layout)
        members = list(content.members()) if self._is_union else [("", content)]
        made: dict[str, Tensor] = {}
        taken: set[str] = set()
        for (given, own), (before, member) in zip(parts, members, strict=True):
            tensors = kind_of(given).read(member, own, layout, str(self.folder))
            made |= {f"{before}{name}": tensor for name, tensor in tensors.items()}
            taken |= own.keys()
        if left_over := {key: tensor for key, tensor in found.items() if key not in taken}:
            from_theirs((), left_over, str(self.folder))
        return made

    @property
    def fusion_config(self) -> dict[str, Any]:
        """The fields of a fusion's configuration."""
        return {**self._given, "value_initialized": bool(self._given.get("value_initialized"))}

    @property
    def adapter_names(self) -> list[str]:
        """Those that a fusion is over."""
        return list(self.content.get("adapter_names") or self.name.split(","))

    def fusion(self, names: Iterable[str], layout: Layout) -> dict[str, Tensor]:
        """The tensors of a fusion by their names here, which are ``names``.

        Raises:
            TensorMismatchError: if some are missing or left over.
        """
        found = layout.aligned(self.tensors, self.folder)
        lists = [list(_fused(names, one)) for one in layout.variants()]
        best = max(lists, key=lambda listed: sum(entry.key in found for entry in listed))
        return from_theirs(best, found, str(self.folder))

    def head(self, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The configuration of a flexible head, and its tensors by their names here.

        Raises:
            CheckpointError: for a head of another kind.
        """
        return heads.read(self.content, layout.aligned(self.tensors, self.folder), str(self.folder))

    @property
    def _is_union(self) -> bool:
        return self._given.get("architecture") == UNION

    @property
    def _given(self) -> Given:
        given = self.content.get("config") or {}
        if not isinstance(given, dict):
            raise CorruptCheckpointError(f"{self.folder / ADAPTER}: the entry 'config' is no object")
        return given

    def _parts(self, found: Tensors, layout: Layout) -> list[tuple[Given, Tensors]]:
        """Options and tensors, of each member of a union."""
        members = self._given.get("configs", ()) if self._is_union else [self._given]
        here = {there: number for number, there in layout.numbers.items()}
        options = [renumbered(given, here) for given in members]
        return divided(options, found, layout) if self._is_union else [(options[0], found)]


def read_adapters(folder: Path, manifest: str, allow_pickle: bool) -> AdaptersCheckpoint | None:
    """Read what ``adapters`` wrote; None if the folder holds nothing of the kind ``manifest`` names.

    Raises:
        CheckpointNotFoundError: if there are no weights, or only pickled ones and ``allow_pickle`` is False.
        CorruptCheckpointError: if a file is truncated, altered, or outside of the folder.
    """
    content = read_json(folder, manifest)
    if content is None or "format" in content or "peft_type" in content or "model_type" not in content:
        return None
    return AdaptersCheckpoint(folder, content, read_tensors(folder, *WEIGHTS[manifest], allow_pickle))


def adapter_files(name: str, content: Content, layout: Layout, about: Given) -> dict[str, bytes]:
    """The files of an adapter; ``about`` is what they say of the model.

    Raises:
        CheckpointError: for a method, an option or an architecture of which ``adapters`` has no equal.
    """
    _check_base(layout)
    if layout.model_type not in (*BUILT_IN, *BY_INTERFACE):
        raise CheckpointError(
            f"adapters knows no models of the type {layout.model_type!r}. Save in the format of adapterhub or of PEFT."
        )
    members = [member for _, member in content.members()] if isinstance(content.config, ConfigUnion) else [content]
    if layout.model_type in BY_INTERFACE:
        for member in members:
            _check_fits_interface(member, layout.model_type)
    given, tensors = (union if isinstance(content.config, ConfigUnion) else written)(content, layout)
    return _files(ADAPTER, {"config": given, "name": name} | dict(about), layout.named(tensors, name))


def _check_base(layout: Layout) -> None:
    """Pass a base model that ``adapters`` leaves as it is.

    Raises:
        CheckpointError: for another.
    """
    if layout.model_type == "xmod":
        raise CheckpointError(
            "adapters takes the language adapters out of an X-MOD before it adds its own: what was trained there gives "
            "something else here, and the other way"
        )


def _check_fits_interface(content: Content, model_type: str) -> None:
    """Pass what ``adapters`` can do in a model that it knows by an interface.

    Raises:
        CheckpointError: for anything else.
    """
    config = content.config
    keeps = getattr(config, "original_ln_after", True)
    if config.method not in ("bottleneck", "lora", "vera", "ia3", "reft") or not keeps:
        what = config.method if keeps else "original_ln_after=False"
        raise CheckpointError(
            f"adapters has no {what} in models of the type {model_type!r}, which it knows by an interface alone. Save "
            "in the format of adapterhub."
        )


def head_files(
    name: str, head: Given, tensors: Tensors, labels: Mapping[int, str] | None, embeddings: Tensor | None, about: Given
) -> dict[str, bytes]:
    """The files of a head, of ``Head.to_dict``.

    Raises:
        CheckpointError: for a head that ``adapters`` has not.
    """
    if about["model_type"] not in BUILT_IN:
        raise CheckpointError(
            f"adapters has no flexible heads for models of the type {about['model_type']!r}. Save the adapter alone "
            "(with_head=False), or in the format of adapterhub."
        )
    given, made = heads.write(head, tensors, labels, embeddings)
    named = {key.replace(f".{ANY}.", f".{name}."): tensor for key, tensor in made.items()}
    return _files(HEAD, {"config": given, "name": name} | dict(about), named)


def own_head_files(tensors: Tensors, labels: Mapping[int, str], about: Given) -> dict[str, bytes]:
    """The files of the head of a transformers class; ``tensors`` by their paths in it."""
    given = {
        "config": None,
        "name": None,
        "label2id": {label: index for index, label in labels.items()},
        "num_labels": len(labels),
    }
    return _files(HEAD, given | dict(about), tensors)


def fusion_files(
    name: str, config: Given, adapter_names: Sequence[str], tensors: Tensors, layout: Layout, about: Given
) -> dict[str, bytes]:
    """The files of a fusion."""
    made = layout.named(to_theirs(_fused(tensors, layout), tensors), name)
    return _files(
        FUSION, {"config": dict(config), "name": name, "adapter_names": list(adapter_names)} | dict(about), made
    )


def _files(manifest: str, content: Given, tensors: Tensors) -> dict[str, bytes]:
    values = dict(content) | {"version": VERSION}
    safe, _ = WEIGHTS[manifest]
    return {safe: encode_plainly(tensors, safe), manifest: json_bytes(values, manifest)}


def _fused(tensors: Iterable[str], layout: Layout) -> Iterator[Entry]:
    """Every tensor of a fusion, by both names."""
    for name in tensors:
        sublayer, leaf = layout.of_sublayer(name)
        assert sublayer is not None
        yield same(f"{layout.bottleneck(sublayer)}.adapter_fusion_layer.{ANY}.{leaf}", name)
