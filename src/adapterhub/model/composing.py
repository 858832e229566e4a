"""What a person calls on a model for compositions: fusions, and whole setups saved and loaded."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapterhub.composition import Composition, Expression, Fuse, parse_composition
from adapterhub.engine import Engine, Fusion
from adapterhub.engine.named import NamedModules
from adapterhub.errors import AdapterNotFoundError, CompositionError
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.model import pruning
from adapterhub.saving import native, setups, shared

_Base: Any = PreTrainedModel if TYPE_CHECKING else object


class ComposingMixin(_Base):
    """Compositions of a model with adapters; ``fusions`` maps names to the fusions that it holds."""

    engine: Engine
    fusions: NamedModules[Fusion]

    def add_adapter_fusion(
        self,
        adapter_names: "Fuse | Iterable[Any] | str",
        config: "AdapterFusionConfig | str | Mapping[str, Any] | None" = None,
        name: str | None = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add attention over adapters, to be trained by ``train_adapter_fusion`` (Pfeiffer et al. 2021).

        Args:
            adapter_names: a ``Fuse``, names, or one text with a comma between names.
            config: ``"dynamic"`` (the default), ``"static"``, an object or a dictionary.
            name: of the fusion; by default the names of the adapters with a comma between.
            overwrite_ok: replace a fusion of that name.
            set_active: make the ``Fuse`` the active setup.

        Raises:
            AdapterExistsError: if the name is taken.
            AdapterNotFoundError: if an adapter is not there.
            CompositionError: if the adapters give nothing that could be fused.
            ConfigError: for an unknown configuration.
        """
        fuse = _fuse(adapter_names, name)
        self.engine.check_fusion_free(fuse.fusion, overwrite_ok)
        loaded = AdapterFusionConfig.load(config)
        self.engine.hold_fusion(self.engine.build_fusion(fuse.fusion, loaded, fuse.names()))
        if set_active:
            self.set_active_adapters(fuse)

    def delete_adapter_fusion(self, adapter_names: "Fuse | Iterable[Any] | str") -> None:
        """Remove a fusion, named as in ``add_adapter_fusion`` or by its name; its adapters stay.

        Raises:
            AdapterNotFoundError: if there is none.
        """
        self.engine.delete_fusion(self._fusion_name(adapter_names))

    def train_adapter_fusion(self, adapter_setup: Any, unfreeze_adapters: bool = False) -> None:
        """Make the fusions of a setup, and the head, the only parts that train; activate it; set training mode.

        ``unfreeze_adapters`` trains its adapters with them. A list of names is one ``Fuse``.

        Raises:
            AdapterNotFoundError: if an adapter or a fusion is not there; nothing is changed then.
            CompositionError: if the setup has no ``Fuse``.
        """
        setup = adapter_setup if isinstance(adapter_setup, Composition) else _fuse(adapter_setup, None)
        fusions = {block.fusion for block in setup.walk() if isinstance(block, Fuse)}
        if not fusions:
            raise CompositionError(f"{setup!r} has no Fuse to train")
        self.train_adapter(setup)
        self._train_only(setup.names() if unfreeze_adapters else ())
        for name, fusion in self.fusions.items():
            fusion.requires_grad_(name in fusions)

    def rank_adapter_fusion(
        self, adapter_names: "Fuse | Iterable[Any] | str", data: Iterable[Mapping[str, Any]]
    ) -> dict[Expression, float]:
        """How much of the attention of a fusion each of its adapters gets on average, the first one the most.

        The mean is over all tokens of ``data`` that are no padding, then over sites; all of them add up to 1.

        Args:
            adapter_names: as in ``add_adapter_fusion``, or the name of the fusion; a ``Fuse`` where it is over blocks.
            data: batches, each the arguments of a call of the model.

        Raises:
            AdapterNotFoundError: if there is no such fusion.
            DataError: if there is no data.
        """
        return pruning.shares(self, self._whole_fuse(adapter_names), data)

    def prune_adapter_fusion(
        self,
        adapter_names: "Fuse | Iterable[Any] | str",
        keep: "int | Iterable[Any]",
        data: Iterable[Mapping[str, Any]] = (),
        name: str | None = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> Fuse:
        """Add a smaller fusion over some adapters of a trained one, with its weights; returns it as a composition.

        The trained one stays. The smaller one gives what it would give if no one attended to the other adapters.

        Args:
            adapter_names: the trained one, as in ``rank_adapter_fusion``.
            keep: the adapters that stay, or how many: those which get the most attention in ``data``.
            data: as in ``rank_adapter_fusion``.
            name: of the smaller fusion; by default the names of its adapters with a comma between.
            overwrite_ok: replace a fusion of that name.
            set_active: make the smaller one the active setup.

        Raises:
            AdapterNotFoundError: if there is no such fusion.
            AdapterExistsError: if the name is taken.
            CompositionError: for adapters that the fusion is not over, or more than there are.
            DataError: if the best are to be found and there is no data.
        """
        whole = self._whole_fuse(adapter_names)
        kept = pruning.best(pruning.shares(self, whole, data), keep) if isinstance(keep, int) else list(keep)
        less = pruning.smaller(whole, kept, name)
        self.engine.check_fusion_free(less.fusion, overwrite_ok)
        self.engine.hold_fusion(pruning.pruned(self, whole, less))
        if set_active:
            self.set_active_adapters(less)
        return less

    def adapter_fusion_to(
        self,
        adapter_names: "Fuse | Iterable[Any] | str",
        device: "torch.device | str | None" = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Move a fusion to a device or data type.

        Raises:
            AdapterNotFoundError: if there is none.
        """
        self.engine.get_fusion(self._fusion_name(adapter_names)).to(device=device, dtype=dtype)

    def save_adapter_fusion(
        self,
        save_directory: str | PathLike[str],
        adapter_names: "Fuse | Iterable[Any] | str",
        meta_dict: Mapping[str, Any] | None = None,
        with_head: bool | str = False,
        format: str = "adapterhub",
    ) -> None:
        """Save a fusion (not its adapters) as a folder that ``load_adapter_fusion`` reads.

        ``with_head`` saves the head named like the fusion beside it, or the one that it names. ``format`` is
        ``"adapterhub"``, or ``"adapters"`` for a folder that the library of that name loads.

        Raises:
            AdapterNotFoundError: if there is none.
            CheckpointError: if the folder cannot be written to, or the format has no fusions.
            ConfigError: for an unknown format.
        """
        name = self._fusion_name(adapter_names)
        head = with_head if isinstance(with_head, str) else name if with_head else None
        setups.save_fusion(self, Path(save_directory), name, meta_dict, head, format)

    def save_all_adapter_fusions(
        self,
        save_directory: str | PathLike[str],
        meta_dict: Mapping[str, Any] | None = None,
        format: str = "adapterhub",
    ) -> None:
        """Save every fusion in a folder of its name under ``save_directory``, as ``save_adapter_fusion`` does."""
        for name in self.fusions:
            setups.save_fusion(self, Path(save_directory) / name, name, meta_dict, None, format)

    def load_adapter_fusion(
        self,
        adapter_fusion_name_or_path: str | PathLike[str],
        load_as: str | None = None,
        set_active: bool = False,
        with_head: bool = True,
        overwrite_ok: bool = False,
        allow_other_base: bool = False,
        allow_pickle: bool = False,
    ) -> str:
        """Load a fusion over adapters that this model holds; returns its name.

        Raises:
            AdapterNotFoundError: if one of its adapters is not there.
            CheckpointNotFoundError, CorruptCheckpointError, BaseModelMismatchError: as ``load_adapter``.
            TensorMismatchError, AdapterExistsError: as ``load_adapter``.
        """
        options = native.LoadOptions(
            load_as,
            with_head,
            overwrite_ok=overwrite_ok,
            allow_other_base=allow_other_base,
            allow_pickle=allow_pickle,
        )
        name = setups.load_fusion(self, Path(adapter_fusion_name_or_path), options)
        if set_active:
            self.set_active_adapters(Fuse(*self.fusions[name].adapter_names, name=name))
        return name

    def save_adapter_setup(
        self,
        save_directory: str | PathLike[str],
        adapter_setup: Any,
        head_setup: Any = None,
        meta_dict: Mapping[str, Any] | None = None,
        format: str = "adapterhub",
    ) -> None:
        """Save a composition as one folder: every adapter and fusion of it in a folder of its own, and how they go
        together. ``head_setup`` is a head, several, or a composition of heads; True the active one. ``format`` is
        ``"adapterhub"``, or ``"adapters"`` for a folder that the library of that name loads.

        Raises:
            AdapterNotFoundError: if an adapter or fusion is not there.
            CheckpointError: if the folder cannot be written to, or the other library has no equal of a part.
            ConfigError: for an unknown format.
        """
        setup = parse_composition(adapter_setup)
        if setup is None:
            raise AdapterNotFoundError("save_adapter_setup needs the name of an adapter, or a composition of names")
        heads = getattr(self, "active_head", None) if head_setup is True else head_setup
        setups.save_setup(self, Path(save_directory), setup, heads, meta_dict, format)

    def load_adapter_setup(
        self,
        adapter_setup_name_or_path: str | PathLike[str],
        set_active: bool = False,
        overwrite_ok: bool = False,
        allow_pickle: bool = False,
        version: str | None = None,
        hub: str | None = None,
    ) -> tuple[Composition, Any]:
        """Load all that ``save_adapter_setup`` wrote, from a folder or a hub (by a name, as ``load_adapter`` does).

        Returns the composition, and that of the heads (or None). Without ``overwrite_ok`` the model is as it was if any
        part of it does not fit.

        Raises:
            CheckpointNotFoundError, CorruptCheckpointError, BaseModelMismatchError: as ``load_adapter``.
            TensorMismatchError, AdapterExistsError: as ``load_adapter``.
        """
        chosen = shared.folder_for(
            self, adapter_setup_name_or_path, version=version, hub=hub, allow_pickle=allow_pickle
        )
        options = native.LoadOptions(
            overwrite_ok=overwrite_ok, allow_pickle=allow_pickle, fingerprint=chosen.fingerprint
        )
        setup, heads = setups.load_setup(self, chosen.folder, options)
        if set_active:
            self.set_active_adapters(setup)
            if heads is not None:
                self.active_head = heads
        return setup, heads

    def get_fusion_regularization_loss(self) -> Tensor | None:
        """What the active fusions add to the loss, 0.01 ‖I - V‖² over all their layers; None if they add nothing.

        It is part of the loss that the model gives in training mode already.
        """
        plan = self.engine.plan()
        names = () if plan is None else plan.fusions
        terms = [term for name in names if (term := self.fusions[name].regularisation()) is not None]
        return sum(terms[1:], terms[0]) if terms else None

    def _fusion_name(self, given: "Fuse | Iterable[Any] | str") -> str:
        return given if isinstance(given, str) and given in self.fusions else _fuse(given, None).fusion

    def _whole_fuse(self, given: "Fuse | Iterable[Any] | str") -> Fuse:
        """A fusion that is there, as a composition.

        Raises:
            AdapterNotFoundError: if it is not there, or over other adapters.
        """
        name = self._fusion_name(given)
        names = self.engine.get_fusion(name).adapter_names
        fuse = Fuse(*names, name=name) if isinstance(given, str) else _fuse(given, name)
        if fuse.names() != names:
            raise AdapterNotFoundError(f"the fusion {name!r} is over {', '.join(names)}, not over {fuse!r}")
        return fuse

    def _with_regularisation(self, output: Any, labelled: bool) -> Any:
        """The output of a call in training, its loss with what active fusions add to it."""
        extra = self.get_fusion_regularization_loss()
        if extra is None:
            return output
        if isinstance(output, tuple):
            return (output[0] + extra, *output[1:]) if labelled else output
        if output.get("loss") is not None:
            output["loss"] = output["loss"] + extra
        return output


def _fuse(given: "Fuse | Iterable[Any] | str", name: str | None) -> Fuse:
    if isinstance(given, Fuse):
        return Fuse(*given.children, name=name or given.name)
    names = given.split(",") if isinstance(given, str) else list(given)
    if len(names) == 1 and isinstance(names[0], Fuse):
        return _fuse(names[0], name)
    if any(parse_composition(child) is None for child in names):
        raise AdapterNotFoundError(f"a fusion is of the names of adapters, not {given!r}")
    return Fuse(*names, name=name)
