"""Looking into a model with adapters: its layers, the modules of an adapter, what it would support."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine import Adapter, Engine
from adapterhub.engine.adapter import EMBEDDINGS
from adapterhub.engine.locations import GLOBAL, located
from adapterhub.engine.named import NamedModules
from adapterhub.errors import ConfigError
from adapterhub.methods import AdapterConfig, load_config
from adapterhub.methods.invertible import CouplingBlock
from adapterhub.model.configurations import ModelAdaptersConfig
from adapterhub.sites import Sublayer

_Base: Any = PreTrainedModel if TYPE_CHECKING else object
# A configuration that stands for each kind of method, as ``adapters`` names these.
_KINDS = {"bottleneck": "seq_bn", "invertible": "seq_bn_inv", "reft": "loreft"}


class InspectingMixin(_Base):
    """What a script asks a model with adapters. Layers count over the whole model, encoder first."""

    engine: Engine
    adapters: NamedModules[Adapter]

    @property
    def adapters_config(self) -> ModelAdaptersConfig:
        """The configurations of all adapters and fusions, and the active setup."""
        return ModelAdaptersConfig.of(self)

    @property
    def model_name(self) -> str:
        """Where the base model came from."""
        return str(self.config._name_or_path)

    @property
    def has_parallel_adapters(self) -> bool:
        """Whether the setup of the call under way, or the active one, gives several results for each input."""
        plan = self.engine.plan()
        return plan is not None and plan.channels > 1

    def get_adapter(self, name: str) -> dict[int, dict[str, nn.Module]]:
        """The modules of an adapter by number of the layer (-1: of none) and kind of place.

        Kinds are ``mh_adapter``, ``output_adapter``, ``cross_adapter``, ``selfattn_lora``, ``intermediate_lora``,
        ``output_lora``, ``self_prefix``, ``encoder_prefix``, ``cross_prefix``, ``output_reft``, ``side``, ``norm``,
        ``invertible`` and ``shared``; where there are several modules of one kind, they are in an ``nn.ModuleList``.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        found: dict[int, dict[str, nn.Module]] = {
            layer: {kind: many[0] if len(many) == 1 else nn.ModuleList(many) for kind, many in kinds.items()}
            for layer, kinds in self._located(self.engine.get(name)).items()
        }
        if shared := self.engine.get(name).shared_modules():
            found.setdefault(GLOBAL, {})["shared"] = shared[0] if len(shared) == 1 else nn.ModuleList(shared)
        return dict(sorted(found.items()))

    def iter_layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Every layer of the base model, with its number."""
        return ((layer.index, self.get_submodule(layer.path)) for layer in self.engine.sites.layers)

    def get_layer(self, idx: int) -> nn.Module:
        """The layer of that number.

        Raises:
            IndexError: if there is none.
        """
        return self.get_submodule(self.engine.sites.layers[idx].path)

    def iter_attentions(self) -> Iterator[tuple[int, Literal["self", "cross"], nn.Module]]:
        """The number of the layer, the kind and the module of every attention."""
        for sublayer in self.engine.sites.sublayers:
            if sublayer.kind != "feed_forward":
                kind: Literal["self", "cross"] = "self" if sublayer.kind == "attention" else "cross"
                yield sublayer.layer, kind, self.get_submodule(_attention_path(sublayer))

    def iter_layer_ffns(self) -> Iterator[tuple[int, Literal["intermediate", "output"], nn.Module]]:
        """The number of the layer, the kind and the module of every projection into a feed-forward and out of it."""
        for sublayer in self.engine.sites.sublayers:
            if sublayer.kind == "feed_forward":
                for projection in sublayer.projections:
                    kind: Literal["intermediate", "output"] = "output" if projection.role == "down" else "intermediate"
                    yield sublayer.layer, kind, self.get_submodule(projection.path)

    def apply_to_adapter_layers(self, fn: Callable[[int, nn.Module], Any]) -> None:
        """Call ``fn`` with the number of the layer and the module, for every module that an adapter has in a layer."""
        self._for_each_part(fn, lambda layer: layer != GLOBAL)

    def apply_to_basemodel_childs(self, fn: Callable[[int, nn.Module], Any]) -> None:
        """Call ``fn`` with -1 and the module, for every module that an adapter has outside of the layers."""
        self._for_each_part(fn, lambda layer: layer == GLOBAL)

    def supports_adapter(self, type_or_config: "AdapterConfig | str | Mapping[str, Any] | Path") -> bool:
        """Whether an adapter of a kind (``"lora"``, ``"bottleneck"``) or configuration would act in this model.

        Raises:
            ConfigError: for an unknown kind or configuration.
        """
        known = _KINDS.get(type_or_config, type_or_config) if isinstance(type_or_config, str) else type_or_config
        config = load_config(known)
        try:
            with torch.random.fork_rng(devices=[]):
                made = self.engine.build("supported", config)
        except ConfigError:
            return False
        return not getattr(config, "inv_adapter", None) or made.at(EMBEDDINGS) is not None

    @property
    def invertible_adapters(self) -> dict[str, nn.Module]:
        """The invertible modules at the embeddings, by the names of their adapters."""
        found = ((name, adapter.at(EMBEDDINGS)) for name, adapter in self.adapters.items())
        return {name: module for name, module in found if isinstance(module, CouplingBlock)}

    def get_invertible_adapter(self) -> nn.Module | None:
        """The first invertible module of the active setup, or None."""
        plan = self.engine.plan()
        own = self.invertible_adapters
        return next((own[name] for name in (plan.setup.names() if plan else ()) if name in own), None)

    def enable_invertible_adapters(self, adapter_names: Iterable[str]) -> None:
        """Have the invertible modules of some adapters train."""
        for name, module in self.invertible_adapters.items():
            if name in set(adapter_names):
                module.requires_grad_(True)

    def invertible_adapters_forward(self, hidden_states: Tensor, rev: bool = False) -> Tensor:
        """What the active setup makes of embeddings ``[batch, seq, width]``; with ``rev`` the way back.

        Raises:
            CompositionError: if the composition has no inverse.
        """
        if rev:
            return self.engine.invert(hidden_states)
        plan = self.engine.plan()
        if plan is None or plan.embeddings is None:
            return hidden_states
        return plan.embeddings(hidden_states, (), self.engine.call)

    def get_labels_dict(self, head_name: str | None = None) -> dict[int, str] | None:
        """Names of the classes by index, as the configuration of the model has them."""
        return dict(self.config.id2label)

    def get_labels(self, head_name: str | None = None) -> list[str] | None:
        """Names of the classes, as the configuration of the model has them."""
        return list(self.config.id2label.values())

    def save_all_heads(self, save_directory: str | PathLike[str]) -> None:
        """Save every head: flexible ones in a folder of its name each, the one of a transformers class in the folder.

        Raises:
            HeadError: if there is none.
            CheckpointError: if a folder cannot be written to.
        """
        names = list(getattr(self, "heads", ()))
        for name in names:
            self.save_head(Path(save_directory) / name, name)
        if not names:
            self.save_head(Path(save_directory))

    def _located(self, adapter: Adapter) -> dict[int, dict[str, list[nn.Module]]]:
        parts = {
            f"{number}.{site}": part for site in adapter.site_names for number, part in enumerate(adapter.parts(site))
        }
        return located(self.engine.places, parts)

    def _for_each_part(self, fn: Callable[[int, nn.Module], Any], wanted: Callable[[int], bool]) -> None:
        for adapter in self.adapters.values():
            for layer, kinds in self._located(adapter).items():
                for module in (module for many in kinds.values() for module in many if wanted(layer)):
                    fn(layer, module)


def _attention_path(sublayer: Sublayer) -> str:
    """The path of the innermost module that holds all projections of an attention, or calls its function."""
    if sublayer.attention is not None:
        return sublayer.attention.path
    paths = [projection.path.split(".")[:-1] for projection in sublayer.projections]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    return ".".join(shared)
