"""The kinds of adapters and heads in a pool: those of one configuration have everything but their values in common."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterhub.checkpoints import match_tensors
from adapterhub.errors import HeadError
from adapterhub.fingerprint import Fingerprint
from adapterhub.heads import BaseInfo, build_head
from adapterhub.methods import load_config
from adapterhub.pool.sources import ADAPTER, HEAD, Found
from adapterhub.saving import native

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

# Options that have no effect but in training: adapters that differ in these alone are of one kind.
_OF_TRAINING = ("init_weights_seed", "dropout", "stochastic_depth")


@dataclass(frozen=True, eq=False)
class Kind:
    """Adapters of one configuration, or heads that differ in the names of their labels alone.

    ``config`` is an ``AdapterConfig``, or that of a head as JSON; ``forms`` are their tensors by name, on no device.
    """

    part: str
    config: Any
    forms: Mapping[str, Tensor]

    def size_in(self, dtype: torch.dtype | None) -> int:
        """The bytes of one, with its numbers in ``dtype``, by default their own."""
        return sum(
            tensor.numel() * (dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype).itemsize
            for tensor in self.forms.values()
        )


class Kinds:
    """The kinds that a model has met; what fits it is found out once for all folders that say the same."""

    def __init__(self, model: "AdapterMixin") -> None:
        self.model = model
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._bases: set[str] = set()  # what was said of base models, and fits
        self._fit: set[tuple[int, int]] = set()  # kinds, and headers that fit them
        self._kept: list[Any] = []
        self._base: Fingerprint | None = None

    def of(self, found: Found, allow_other_base: bool) -> dict[str, Kind]:
        """The kind of every part of what a folder holds, which is known to fit the model then.

        Raises:
            BaseModelMismatchError: if it was made for another base model.
            TensorMismatchError: if the tensors are not those of its configuration in this model.
            ConfigError: if the configuration does not fit the model.
            HeadError: if it brings a head, and the model takes none.
        """
        if found.is_native and not allow_other_base:
            self._check_base(found)
        kinds = {part: self._kind(part, config, found.source.folder) for part, config in found.configs.items()}
        for part, kind in kinds.items():
            alike = found.alike(part)
            if (id(kind), id(alike)) not in self._fit:
                match_tensors(kind.forms, found.forms_of(part), f"the {part} in {found.source.folder}")
                self._fit.add((id(kind), id(alike)))
                self._kept.append(alike)  # as long as it is there, nothing else has its id
        return kinds

    def _check_base(self, found: Found) -> None:
        said = json.dumps(found.base, sort_keys=True)
        if said not in self._bases:
            if self._base is None:
                self._base = native.fingerprint(self.model)
            native.check_made_for(found.base, self._base, found.source.folder)
            self._bases.add(said)

    def _kind(self, part: str, config: Mapping[str, Any], folder: Path) -> Kind:
        plain = {name: value for name, value in config.items() if name != "id2label"} if part == HEAD else config
        key = part, json.dumps(plain, sort_keys=True)
        if key not in self._kinds:
            self._kinds[key] = self._adapter(plain) if part == ADAPTER else self._head(plain, folder)
        return self._kinds[key]

    def _adapter(self, values: Mapping[str, Any]) -> Kind:
        config = load_config(values)
        defaults = {one.name: one.default for one in fields(type(config))}
        config = config.replace(**{name: defaults[name] for name in _OF_TRAINING if name in defaults})
        known = (kind for (part, _), kind in self._kinds.items() if part == ADAPTER)
        same = next((kind for kind in known if kind.config == config), None)
        if same is not None:
            return same
        with torch.random.fork_rng(devices=[]):  # values that nobody uses shift nobody's random numbers
            return Kind(ADAPTER, config, _forms(self.model.engine.build("like", config)))

    def _head(self, config: Mapping[str, Any], folder: Path) -> Kind:
        if not hasattr(self.model, "head_banks"):
            raise HeadError(
                f"{folder} brings a head, and {type(self.model).__name__} has no place for heads of others: use "
                "AutoAdapterModel, or register it without (with_head=False)"
            )
        with torch.random.fork_rng(devices=[]):
            return Kind(HEAD, config, _forms(build_head(config, BaseInfo.of(self.model))))


def _forms(module: nn.Module) -> dict[str, Tensor]:
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in module.state_dict().items()}
