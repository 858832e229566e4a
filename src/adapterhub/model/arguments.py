"""Arguments that scripts for ``adapters`` pass when they save and load, beside those that have a use here."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from adapterhub.composition import Composition, parse_composition
from adapterhub.saving import shared

# Of the methods below, which take these arguments in another order, this is the first in line, and no subclass.
_Base: Any = object


class WeightsLoader(Protocol):
    """Something of a person's own that is saved and loaded with an adapter, in the same folder."""

    def save(self, save_directory: str, name: str) -> Any:
        """Write what belongs to the adapter, fusion or head ``name``."""

    def load(self, save_directory: str, load_as: str | None = None, **kwargs: Any) -> Any:
        """Read it back; ``load_as`` is the name in the model."""


Loaders = Iterable[WeightsLoader] | None


class ArgumentsMixin(_Base):
    """Methods with the arguments of ``adapters``; all others (``**options``) are those of the method below.

    ``use_safetensors`` has no effect: files are safetensors always, and what a folder holds is seen. Each of
    ``custom_weights_loaders`` is told to ``save`` and ``load`` in the same folder.
    """

    def save_adapter(
        self,
        save_directory: str | PathLike[str],
        adapter_name: str,
        with_head: bool = True,
        meta_dict: Any = None,
        custom_weights_loaders: Loaders = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``AdapterMixin.save_adapter``."""
        super().save_adapter(save_directory, adapter_name, with_head, meta_dict, **options)
        _save(custom_weights_loaders, save_directory, adapter_name)

    def save_all_adapters(
        self,
        save_directory: str | PathLike[str],
        with_head: bool = True,
        meta_dict: Any = None,
        custom_weights_loaders: Loaders = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``AdapterMixin.save_all_adapters``."""
        super().save_all_adapters(save_directory, with_head, meta_dict, **options)
        for name in self.adapters:
            _save(custom_weights_loaders, Path(save_directory) / name, name)

    def load_adapter(
        self,
        adapter_name_or_path: str | PathLike[str],
        config: Any = None,
        version: str | None = None,
        model_name: str | None = None,
        load_as: str | None = None,
        with_head: bool = True,
        custom_weights_loaders: Loaders = None,
        leave_out: Iterable[int] | None = None,
        id2label: Any = None,
        set_active: bool = False,
        use_safetensors: bool = True,
        loading_info: dict[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """As ``AdapterMixin.load_adapter``; ``model_name`` has no effect: this model is the one that it has to fit.

        ``loading_info`` is told that no key was missing and none left over: anything else is an error.
        """
        chosen = shared.folder_for(self, adapter_name_or_path, config=config, version=version, **_where(options))
        name: str = super().load_adapter(
            chosen,
            load_as=load_as,
            with_head=with_head,
            leave_out=leave_out,
            id2label=id2label,
            set_active=set_active,
            **options,
        )
        _load(custom_weights_loaders, chosen.folder, name)
        if loading_info is not None:
            loading_info |= {"missing_keys": [], "unexpected_keys": []}
        return name

    def save_head(
        self,
        save_directory: str | PathLike[str],
        head_name: str | None = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``AdapterMixin.save_head``."""
        super().save_head(save_directory, head_name, **options)

    def save_all_heads(self, save_directory: str | PathLike[str], use_safetensors: bool = True, **options: Any) -> None:
        """As ``InspectingMixin.save_all_heads``."""
        super().save_all_heads(save_directory, **options)

    def load_head(
        self,
        save_directory: str | PathLike[str],
        load_as: str | None = None,
        id2label: Any = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> str:
        """As ``AdapterMixin.load_head``."""
        name: str = super().load_head(save_directory, load_as=load_as, id2label=id2label, **options)
        return name

    def save_adapter_fusion(
        self,
        save_directory: str | PathLike[str],
        adapter_names: Any,
        meta_dict: Any = None,
        custom_weights_loaders: Loaders = None,
        with_head: bool | str = False,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``ComposingMixin.save_adapter_fusion``."""
        super().save_adapter_fusion(save_directory, adapter_names, meta_dict, with_head, **options)
        _save(custom_weights_loaders, save_directory, self._fusion_name(adapter_names))

    def save_all_adapter_fusions(
        self,
        save_directory: str | PathLike[str],
        meta_dict: Any = None,
        custom_weights_loaders: Loaders = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``ComposingMixin.save_all_adapter_fusions``."""
        super().save_all_adapter_fusions(save_directory, meta_dict, **options)
        for name in self.fusions:
            _save(custom_weights_loaders, Path(save_directory) / name, name)

    def load_adapter_fusion(
        self,
        adapter_fusion_name_or_path: str | PathLike[str],
        load_as: str | None = None,
        custom_weights_loaders: Loaders = None,
        set_active: bool = False,
        with_head: bool = True,
        use_safetensors: bool = True,
        **options: Any,
    ) -> str:
        """As ``ComposingMixin.load_adapter_fusion``."""
        name: str = super().load_adapter_fusion(
            adapter_fusion_name_or_path, load_as=load_as, set_active=set_active, with_head=with_head, **options
        )
        _load(custom_weights_loaders, adapter_fusion_name_or_path, name)
        return name

    def save_adapter_setup(
        self,
        save_directory: str | PathLike[str],
        adapter_setup: Any,
        head_setup: Any = None,
        meta_dict: Any = None,
        custom_weights_loaders: Loaders = None,
        use_safetensors: bool = True,
        **options: Any,
    ) -> None:
        """As ``ComposingMixin.save_adapter_setup``; loaders save in the folder of each adapter."""
        super().save_adapter_setup(save_directory, adapter_setup, head_setup, meta_dict, **options)
        for name in _names(adapter_setup):
            _save(custom_weights_loaders, Path(save_directory) / name, name)

    def load_adapter_setup(
        self,
        adapter_setup_name_or_path: str | PathLike[str],
        version: str | None = None,
        custom_weights_loaders: Loaders = None,
        set_active: bool = False,
        use_safetensors: bool = True,
        **options: Any,
    ) -> tuple[Composition, Any]:
        """As ``ComposingMixin.load_adapter_setup``."""
        chosen = shared.folder_for(self, adapter_setup_name_or_path, version=version, **_where(options))
        setup, heads = super().load_adapter_setup(chosen, set_active=set_active, **options)
        for name in setup.names():
            _load(custom_weights_loaders, chosen.folder / name, name)
        return setup, heads


def _where(options: dict[str, Any]) -> dict[str, Any]:
    """What of the arguments says where an adapter is: ``hub`` is of no more use once it is here."""
    return {"hub": options.pop("hub", None), "allow_pickle": options.get("allow_pickle", False)}


def _names(setup: Any) -> tuple[str, ...]:
    parsed = parse_composition(setup)
    return () if parsed is None else parsed.names()


def _save(loaders: Loaders, folder: str | PathLike[str], name: str) -> None:
    for loader in loaders or ():
        loader.save(str(folder), name)


def _load(loaders: Loaders, folder: str | PathLike[str], name: str) -> None:
    for loader in loaders or ():
        loader.load(str(folder), load_as=name)
