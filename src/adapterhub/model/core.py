"""What a person calls on a model: adding, activating, training, saving and loading adapters."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from enum import StrEnum
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.masking_utils import create_masks_for_generate

from adapterhub.checkpoints import Part, Storage, load_into, whole_state
from adapterhub.checkpoints.described import adapter_folder
from adapterhub.composition import Composition, parse_composition
from adapterhub.engine import Adapter, Engine, calls, setups_open
from adapterhub.engine.adapter import ejected
from adapterhub.engine.named import HoldsNamedModules, NamedModules
from adapterhub.engine.sharing import names_by_group, sharing_with, with_copies
from adapterhub.engine.stored import check_gradients
from adapterhub.errors import AdapterNotFoundError, HeadError, MergeError
from adapterhub.heads import StaticHead
from adapterhub.heads.static import is_base_model
from adapterhub.methods import AdapterConfig, load_config
from adapterhub.model import merging
from adapterhub.model.arithmetic import ArithmeticMixin
from adapterhub.model.composing import ComposingMixin
from adapterhub.model.embeddings import EmbeddingsMixin
from adapterhub.model.inspecting import InspectingMixin
from adapterhub.model.pooling import PoolingMixin
from adapterhub.model.publishing import PublishingMixin
from adapterhub.model.sharing import SharingMixin
from adapterhub.model.shrinking import ShrinkingMixin
from adapterhub.model.summary import AdapterSummary, summarise
from adapterhub.saving import foreign, foreign_loading, native, shared
from adapterhub.sites import AdapterModelInterface, Sites, discover
from adapterhub.sites.interface import described

_Base: Any = PreTrainedModel if TYPE_CHECKING else object

logger = logging.getLogger(__name__)


class AdapterType(StrEnum):
    """The kind of an adapter in older scripts: for a task or for a language. It has no effect."""

    text_task = "text_task"
    text_lang = "text_lang"


class AdapterMixin(
    ComposingMixin,
    SharingMixin,
    ArithmeticMixin,
    EmbeddingsMixin,
    InspectingMixin,
    PoolingMixin,
    PublishingMixin,
    ShrinkingMixin,
    HoldsNamedModules,
    _Base,
):
    """Adapters for a transformers model; ``adapterhub.init`` gives it to any model.

    ``adapters`` maps names to adapters; ``engine`` binds them to the model.
    """

    engine: Engine
    adapters: NamedModules[Adapter]
    adapter_interface: AdapterModelInterface | None
    _merged: tuple[str, merging.Originals] | None = None
    # from_pretrained finds these in what save_pretrained wrote, and does not know them yet.
    _keys_to_ignore_on_load_unexpected = [rf"^{name}\." for name in native.RESTORED]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.device.type != "meta":  # from_pretrained builds on no device, and loads before it can run
            self.init_adapters()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, and with the adapters (and flexible heads) that ``save_pretrained`` wrote."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if "engine" not in model.__dict__:
            model.init_adapters(AdapterModelInterface.load(Path(pretrained_model_name_or_path or "")))
        native.restore(model, pretrained_model_name_or_path, kwargs)
        return loaded

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers, adapters and flexible heads included; ``from_pretrained`` brings them back."""
        said = self.adapters_config.to_dict()
        self.config.adapterhub, self.config.adapterhub_fusions = said["adapters"], said["fusions"]
        self.config.adapterhub_embeddings = self.embeddings_config()
        self.config.adapterhub_shared = names_by_group(self.adapters.values())
        if self.config.adapterhub_shared:
            given = kwargs.get("state_dict") or self.state_dict()
            kwargs["state_dict"] = with_copies(given, self.adapters.values(), "adapters.")
        super().save_pretrained(*args, **kwargs)
        native.save_interface(self, kwargs.get("save_directory") or args[0])

    def init_adapters(self, sites: Sites | AdapterModelInterface | None = None) -> None:
        """Find the sites of this model (or take those described by hand) and make it ready for adapters.

        Raises:
            SiteError: if no site is found, or ``sites`` name a module that is not there.
        """
        self.engine = Engine(self, discover(self) if sites is None else described(sites, self))
        self.adapter_interface = sites if isinstance(sites, AdapterModelInterface) else None
        self.adapters, self.fusions = self.engine.adapters, self.engine.fusions
        self.vocabularies = NamedModules()

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
        self.engine.check_free(adapter_name, overwrite_ok)
        self.engine.hold(self.engine.build(adapter_name, load_config(config)))
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
            TrainingError: if the base model is quantised in a way that lets no gradients pass.
        """
        setup = parse_composition(adapter_setup)
        if setup is None:
            raise AdapterNotFoundError("train_adapter needs the name of an adapter, or a composition of names")
        check_gradients(self.modules())
        self.set_active_adapters(setup)
        self.train()
        self.freeze_model()
        self._train_only(setup.flatten())
        self.fusions.requires_grad_(False)
        for parameter in self._head_parameters():
            parameter.requires_grad_(True)
        if train_embeddings:
            self.get_input_embeddings().requires_grad_(True)

    def _train_only(self, names: Collection[str]) -> None:
        self.adapters.requires_grad_(False)
        for name in names:  # last, or one that shares parameters with another would not train
            self.adapters[name].requires_grad_(True)

    def train_adapters(self, adapter_names: Any) -> None:
        """The older name of ``train_adapter``."""
        self.train_adapter(adapter_names)

    def freeze_model(self, freeze: bool = True) -> None:
        """Freeze (or unfreeze) every parameter of the base model."""
        for parameter in self.base_parameters():
            parameter.requires_grad_(not freeze)

    def base_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that are of neither an adapter nor a trainable head."""
        added = (self.adapters, self.fusions)
        apart = {id(p) for module in added for p in module.parameters()} | {id(p) for p in self._head_parameters()}
        return (parameter for parameter in self.parameters() if id(parameter) not in apart)

    def adapter_summary(self, as_dict: bool = False) -> "AdapterSummary | list[dict[str, Any]]":
        """Name, method, size, state of every adapter, and of the full model; prints as a table."""
        summary = summarise(self)
        return summary.rows() if as_dict else summary

    def adapter_to(
        self, name: str, device: "torch.device | str | None" = None, dtype: torch.dtype | None = None
    ) -> None:
        """Move one adapter to a device or data type, and those that share parameters with it.

        Raises:
            AdapterNotFoundError: if there is none of that name.
        """
        for adapter in sharing_with(self.engine.get(name), self.adapters.values()):
            adapter.to(device=device, dtype=dtype)

    def save_adapter(
        self,
        save_directory: str | PathLike[str],
        adapter_name: str,
        with_head: bool = True,
        meta_dict: Mapping[str, Any] | None = None,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        format: str = "adapterhub",
        dtype: Storage | None = None,
    ) -> None:
        """Save an adapter, and the head that goes with it, as a folder that ``load_adapter`` reads.

        A crash while saving leaves what was in the folder before. ``meta_dict`` is kept in the manifest as
        ``"meta"``; the digest of ``tokenizer``, if given, in the fingerprint of the base model. With ``format``
        ``"peft"`` or ``"adapters"`` the folder is one that the library of that name loads, with equal outputs.
        Values are stored as they are, or in fewer bits: ``dtype`` is ``"bfloat16"``, ``"int8"`` or ``"int4"`` (whole
        numbers with a scale for each block of values), and what is loaded has that precision.
        Where parameters are spread over processes (FSDP2, DeepSpeed ZeRO-3), each of these has to call it, and what is
        saved is whole.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            CheckpointError: if the folder cannot be written to, or the other library has no equal of the adapter.
            ConfigError: for an unknown format or dtype.
        """
        if foreign.is_foreign(format):
            foreign.check_has_place(format, meta_dict=format == "peft" and meta_dict, tokenizer=tokenizer, dtype=dtype)
            foreign.save_adapter(self, Path(save_directory), adapter_name, with_head, meta_dict, format)
        else:
            native.save_adapter(self, Path(save_directory), adapter_name, with_head, meta_dict, tokenizer, dtype)

    def save_all_adapters(
        self,
        save_directory: str | PathLike[str],
        with_head: bool = True,
        meta_dict: Mapping[str, Any] | None = None,
        format: str = "adapterhub",
        dtype: Storage | None = None,
    ) -> None:
        """Save every adapter in a folder of its name under ``save_directory``; arguments as of ``save_adapter``.

        Raises:
            CheckpointError: if a folder cannot be written to.
        """
        for name in self.adapters:
            self.save_adapter(Path(save_directory) / name, name, with_head, meta_dict, format=format, dtype=dtype)

    def load_adapter(
        self,
        adapter_name_or_path: str | PathLike[str],
        load_as: str | None = None,
        with_head: bool = True,
        leave_out: Iterable[int | str] | None = None,
        id2label: Mapping[int, str] | None = None,
        set_active: bool = False,
        overwrite_ok: bool = False,
        allow_other_base: bool = False,
        allow_pickle: bool = False,
        version: str | None = None,
        hub: str | None = None,
        config: Any = None,
    ) -> str:
        """Load an adapter (and its head) that ``save_adapter``, ``adapters`` or PEFT wrote, from a folder or a hub.

        On a hub an adapter is named as ``"sentiment/sst-2@ukp"``, ``"lang/de@ukp"``, ``"me/roberta-sst2"`` or by the
        address of its page; of several the one is taken that fits this model, and with ``config`` (as of
        ``add_adapter``) one of its method, preferably of this very configuration. ``version`` is a tag, a branch or a
        commit there, and ``hub`` the address of a hub if no other shall be asked.

        Returns its name. A folder that holds one adapter in a folder of its own stands for that. Nothing is changed
        unless all of it fits. ``load_as`` gives it another name, ``leave_out`` drops it from some layers (by number) or
        towers (by name), ``id2label`` says which labels the head must have, and ``allow_other_base`` loads it into a
        base model that it was not trained for, as long as the shapes fit. With ``allow_pickle`` the tensors in a pickle
        (``pytorch_adapter.bin``, ``adapter_model.bin``) are read, and nothing else in it.

        Raises:
            CheckpointNotFoundError: if there is no checkpoint.
            AmbiguousAdapterError: if several adapters of a hub answer to that name equally well.
            ConfigError: if ``config`` is none.
            HubUnreachableError: if a hub does not answer.
            CorruptCheckpointError: if a file is truncated, altered or malformed.
            BaseModelMismatchError: if it was made for another base model.
            TensorMismatchError: if a tensor is missing, left over, or of another shape.
            LabelMismatchError: if the head has other labels than ``id2label``.
            AdapterExistsError: if there is an adapter or head of that name, unless ``overwrite_ok``.
            HeadError: if it brings a head that this class cannot take (pass ``with_head=False`` then).
        """
        chosen = shared.folder_for(
            self, adapter_name_or_path, config=config, version=version, hub=hub, allow_pickle=allow_pickle
        )
        options = native.LoadOptions(
            load_as,
            with_head,
            tuple(leave_out or ()),
            id2label,
            set_active,
            overwrite_ok,
            allow_other_base,
            allow_pickle,
            chosen.fingerprint,
        )
        folder = adapter_folder(chosen.folder)
        foreign = foreign_loading.load_adapter(self, folder, options)
        return native.load_adapter(self, folder, options) if foreign is None else foreign

    def save_head(
        self, save_directory: str | PathLike[str], head_name: str | None = None, format: str = "adapterhub"
    ) -> None:
        """Save a head alone; without a name the active one, or the one that the transformers class has.

        ``format`` is ``"adapterhub"``, or ``"adapters"`` for a folder that the library of that name loads.

        Raises:
            HeadError: if there is no such head.
            CheckpointError: if the folder cannot be written to, or ``adapters`` has no such head.
            ConfigError: for an unknown format.
        """
        if foreign.is_foreign(format):
            foreign.save_head(self, Path(save_directory), head_name, format)
        else:
            native.save_head(self, Path(save_directory), head_name)

    def load_head(
        self,
        save_directory: str | PathLike[str],
        load_as: str | None = None,
        id2label: Mapping[int, str] | None = None,
        overwrite_ok: bool = False,
        allow_pickle: bool = False,
    ) -> str:
        """Load a head that ``save_head``, ``save_adapter`` or ``adapters`` wrote; returns its name.

        Raises:
            CheckpointNotFoundError: if there is no head in the folder.
            CorruptCheckpointError, TensorMismatchError, LabelMismatchError, AdapterExistsError, HeadError: as
                ``load_adapter``.
        """
        options = native.LoadOptions(load_as, id2label=id2label, overwrite_ok=overwrite_ok, allow_pickle=allow_pickle)
        foreign = foreign_loading.load_head(self, Path(save_directory), options)
        if foreign is not None:
            return foreign
        return native.load_head(self, Path(save_directory), load_as, id2label, overwrite_ok)

    def eject_prefix_tuning(self, name: str) -> None:
        """Put the keys and values that the network of a reparametrised prefix makes in the place of the network.

        What the adapter gives stays as it is; a prefix that is flat already stays too.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            ConfigError: if it is no prefix tuning.
        """
        self.engine.hold(ejected(self.engine.get(name), self.engine.build))

    def merge_adapter(self, name: str) -> None:
        """Write an adapter into the weights of the base model, where it costs nothing; ``reset_adapter`` undoes it.

        The adapter is not active afterwards: the bare model gives what the model with the adapter gave. The weights
        that change are kept for ``reset_adapter``. ``save_pretrained`` saves what is merged as part of the model.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            MergeError: if it acts on more than weights, a weight that it changes is shared or quantised, or an adapter
                is merged already. Nothing is changed then.
        """
        if self._merged is not None:
            raise MergeError(f"adapter {self._merged[0]!r} is merged already: call reset_adapter() first")
        self._merged = name, merging.merge(self, name)
        active = self.active_adapters
        if active is not None and name in active.flatten():
            self.set_active_adapters(None)

    def reset_adapter(self) -> None:
        """Take the merged adapter out again: the base model is as it was, to the bit. Without one, nothing is done."""
        if self._merged is not None:
            merging.unmerge(self, self._merged[1])
            self._merged = None

    @property
    def merged_adapter(self) -> str | None:
        """The adapter that is merged into the base model, if one is."""
        return None if self._merged is None else self._merged[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model under the active setup; ``adapterhub.engine.calls.run`` says what may be asked for beside."""
        if not setups_open():
            return self._run(args, kwargs)
        with self.engine.under(self.engine.enter()):
            return self._run(args, kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = self.engine.plan()
        asked = [name for name in calls.OPTIONS if name in kwargs]
        if asked or (plan is not None and plan.reads_call):
            output = calls.run(self.engine, super().__call__, args, kwargs)
        else:
            output = super().__call__(*args, **kwargs)
        if self.training and plan is not None and plan.fusions:
            return self._with_regularisation(output, kwargs.get("labels") is not None)
        return output

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generation as in transformers, under the active setup; ``task_ids`` as for a call."""
        with self.engine.under(self.engine.enter()):  # generation calls the encoder by itself
            return calls.generate(self.engine, super().generate, args, kwargs)

    def create_masks_for_generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; under a prompt the mask of padding, out of which the model makes its own when it grew."""
        if self.engine.cache_room:
            return kwargs["attention_mask"]
        make = getattr(super(), "create_masks_for_generate", create_masks_for_generate)
        return make(*args, **kwargs)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: Any, generation_mode: Any, batch_size: int, max_cache_length: int
    ) -> None:
        # A cache of a fixed size holds the prompts too.
        room = max_cache_length + self.engine.cache_room
        super()._prepare_cache_for_generation(generation_config, model_kwargs, generation_mode, batch_size, room)

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
        base = self.base_model
        if base is self or is_base_model(self) or self.get_output_embeddings() is not None:
            return
        apart = {id(p) for module in (base, self.adapters, self.fusions) for p in module.parameters()}
        yield from (parameter for parameter in self.parameters() if id(parameter) not in apart)

    def head_part(self, name: str | None) -> tuple[str, Part] | None:
        """Name and content of the head that goes with the adapter ``name`` (None: the active one), if there is one."""
        if next(self._head_parameters(), None) is None:
            return None
        head = StaticHead.from_model(self._plain())
        return name or "default", Part(head.to_dict(), whole_state(head))

    def _plain(self) -> PreTrainedModel:
        """This model without its adapters: the same modules in an object of the transformers class."""
        twin = copy(self)
        plain = (c for c in type(self).__mro__ if issubclass(c, PreTrainedModel) and not issubclass(c, AdapterMixin))
        object.__setattr__(twin, "__class__", next(plain))
        twin._modules = {name: module for name, module in self._modules.items() if name != "adapters"}
        del twin.__dict__["engine"]
        return twin

    def stage_head(self, name: str, part: Part, overwrite_ok: bool) -> Callable[[], None]:
        """Check that a saved head fits this model, and return what puts it in its place.

        Raises:
            HeadError: if this model cannot take it.
            TensorMismatchError: if its tensors do not fit.
        """
        if self.head_part(name) is None or part.config.get("architecture") != type(self).__name__:
            kind = part.config.get("architecture") or part.config.get("head_type")
            raise HeadError(
                f"{type(self).__name__} has no place for the head {name!r} of kind {kind}. Load it into "
                "AutoAdapterModel, which takes any head, or pass with_head=False."
            )
        load_into(
            StaticHead.from_model(self._plain()), part.tensors, f"head {name!r}"
        )  # a copy: all of it fits, or none

        def put() -> None:
            with torch.no_grad():
                for path, tensor in part.tensors.items():
                    self.get_parameter(path.removeprefix("shell.")).copy_(tensor)
            labels = part.config["settings"].get("id2label")
            if labels is not None:
                self.config.id2label = {int(index): label for index, label in labels.items()}
                self.config.label2id = {label: index for index, label in self.config.id2label.items()}

        return put
