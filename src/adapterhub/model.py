"""What a person calls on a model: adding, activating, training, saving and loading adapters."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from adapterhub.composition import Composition, parse_composition
from adapterhub.engine import Adapter, Engine
from adapterhub.engine.named import NamedModules
from adapterhub.errors import AdapterNotFoundError
from adapterhub.methods import AdapterConfig, load_config
from adapterhub.sites import Sites, discover
from adapterhub.summary import AdapterSummary, summarise

if TYPE_CHECKING:
    _Base = PreTrainedModel
else:
    _Base = object

logger = logging.getLogger(__name__)


class AdapterType(StrEnum):
    """The kind of an adapter in older scripts: for a task or for a language. It has no effect."""

    text_task = "text_task"
    text_lang = "text_lang"


class AdapterMixin(_Base):
    """Adapters for a transformers model; ``adapterhub.init`` gives it to any model.

    ``adapters`` maps names to adapters; ``engine`` binds them to the model.
    """

    engine: Engine
    adapters: NamedModules[Adapter]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.device.type == "meta":  # from_pretrained builds on no device, and loads before it can run
            self.init_adapters()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, and with the adapters (and flexible heads) that ``save_pretrained`` wrote."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if "engine" not in model.__dict__:
            model.init_adapters()
        return loaded

    def init_adapters(self, sites: Sites | None = None) -> None:
        """Find the sites of this model (or take ``sites``) and make it ready for adapters.

        Raises:
            SiteError: if no site is found.
        """
        self.engine = Engine(self, discover(self) if sites is None else sites)
        self.adapters = self.engine.adapters

    @property
    def sites(self) -> Sites:
        """Where adapters can act in this model."""
        return self.engine.sites

    def add_adapter(
        self,
        adapter_name: str,
        adapter_type: Any = None,
        config: "AdapterConfig | str | Mapping[str, Any] | Path | None" = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add a new adapter, randomly initialised and near the identity.

        Args:
            adapter_name: a name without ``"."``.
            adapter_type: an ``AdapterType``, which is noted by older scripts and has no effect; or the configuration.
            config: an object, a name with overrides (``"seq_bn[reduction_factor=8]"``), a dictionary, or a JSON
                file; ``"seq_bn"`` by default.
            overwrite_ok: replace an adapter of that name.
            set_active: make it the active adapter.

        Raises:
            AdapterExistsError: if the name is taken.
            ConfigError: for an unknown or unfit configuration.
        """
        if config is None and adapter_type not in (*AdapterType, None):
            config = adapter_type
        self.engine.add(adapter_name, load_config(config), overwrite_ok)
        if set_active:
            self.set_active_adapters(adapter_name)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter; if it was active, none is afterwards.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        self.engine.delete(adapter_name)

    def set_active_adapters(self, adapter_setup: Any, skip_layers: Iterable[int] | None = None) -> None:
        """Make a name, a composition, or a list of names (a Stack) the active setup; None runs the bare model.

        Heads named like the last adapter become active with it, on models with flexible heads. No adapter acts in
        ``skip_layers`` (numbers over the whole model, encoder first; AdapterDrop, Rücklé et al. 2021).

        Raises:
            AdapterNotFoundError: if the setup names an adapter that is not there; the active setup stays.
            CompositionError: for something that is no setup, or layers that are not there.
        """
        setup = parse_composition(adapter_setup)
        self.engine.activate(setup, skip_layers or ())
        if setup is not None:
            self._activate_heads(setup)

    @property
    def active_adapters(self) -> Composition | None:
        """The active setup of the model (not that of an ``AdapterSetup`` block), or None."""
        return None if self.engine.active is None else self.engine.active.setup

    @active_adapters.setter
    def active_adapters(self, setup: Any) -> None:
        self.set_active_adapters(setup)

    def has_adapters(self) -> bool:
        """Whether this model holds any adapter."""
        return len(self.adapters) > 0

    def train_adapter(self, adapter_setup: Any, train_embeddings: bool = False) -> None:
        """Make the adapters of a setup, and the head, the only parts that train; activate them; set training mode.

        A head that transformers gave the model trains too, unless it is a language-modelling head: that one belongs
        to the pre-trained model.

        Raises:
            AdapterNotFoundError: if the setup names an adapter that is not there; nothing is changed then.
            CompositionError: for something that is no setup.
        """
        setup = parse_composition(adapter_setup)
        if setup is None:
            raise AdapterNotFoundError("train_adapter needs the name of an adapter, or a composition of names")
        self.set_active_adapters(setup)
        self.train()
        self.freeze_model()
        for name, adapter in self.adapters.items():
            adapter.requires_grad_(name in setup.flatten())
        for parameter in self._head_parameters():
            parameter.requires_grad_(True)
        if train_embeddings:
            self.get_input_embeddings().requires_grad_(True)

    def train_adapters(self, adapter_names: Any) -> None:
        """The older name of ``train_adapter``."""
        self.train_adapter(adapter_names)

    def freeze_model(self, freeze: bool = True) -> None:
        """Freeze (or unfreeze) every parameter of the base model."""
        for parameter in self.base_parameters():
            parameter.requires_grad_(not freeze)

    def base_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that are of neither an adapter nor a trainable head."""
        apart = {id(p) for p in (*self.adapters.parameters(), *self._head_parameters())}
        return (parameter for parameter in self.parameters() if id(parameter) not in apart)

    def adapter_summary(self, as_dict: bool = False) -> "AdapterSummary | list[dict[str, Any]]":
        """Name, method, size, state of every adapter, and of the full model; prints as a table."""
        summary = summarise(self)
        return summary.rows() if as_dict else summary

    def adapter_to(
        self, name: str, device: "torch.device | str | None" = None, dtype: torch.dtype | None = None
    ) -> None:
        """Move one adapter to a device or data type.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        self.engine.get(name).to(device=device, dtype=dtype)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.engine.enter()
        return super().__call__(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generation as in transformers, under the active setup."""
        self.engine.enter()  # generation calls the encoder by itself, before any call of the model
        return super().generate(*args, **kwargs)

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint, **kwargs: Any
    ) -> None:
        # What every way of switching checkpointing on in transformers comes down to.
        recompute = partial(self.engine.checkpoint, gradient_checkpointing_func)
        super()._set_gradient_checkpointing(enable, recompute, **kwargs)

    def _activate_heads(self, setup: Composition) -> None:
        """Make the heads that go with ``setup`` active; a model without flexible heads has none to choose from."""

    def _head_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the head that a transformers class adds to its base model, if it is to be trained."""
        return (parameter for _, parameter in self._static_head())

    def _static_head(self) -> Iterator[tuple[str, nn.Parameter]]:
        base = self.base_model
        if base is self or self.get_output_embeddings() is not None:
            return
        inside = {id(parameter) for parameter in base.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) not in inside and not name.startswith("adapters."):
                yield name, parameter
