"""Models with adapters, from a name: the counterparts of the ``Auto`` classes of transformers."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from adapterhub.classes import adapter_class, flexible_class
from adapterhub.errors import HeadError, SiteError
from adapterhub.heads import base_of
from adapterhub.model import AdapterMixin
from adapterhub.model.configurations import ModelAdaptersConfig
from adapterhub.saving import native
from adapterhub.sites import AdapterModelInterface, Sites

M = TypeVar("M", bound=PreTrainedModel)


def init(
    model: M,
    adapters_config: ModelAdaptersConfig | Mapping[str, Any] | None = None,
    interface: AdapterModelInterface | Sites | None = None,
    sites: Sites | None = None,
) -> M:
    """Make an existing transformers model ready for adapters, in place; a model that is ready already stays as it is.

    ``sites`` (or an ``interface``, as ``adapters`` has them) describes by hand where adapters act, for a model in which
    discovery finds nothing. ``adapters_config`` names adapters and fusions to add, each with its configuration.

    Raises:
        SiteError: if ``model`` is no transformers model, or has no sites; it is left as it was.
        ConfigError: for an unknown or unfit configuration; the model is left as it was.
    """
    if isinstance(model, AdapterMixin):
        return model
    if not isinstance(model, PreTrainedModel):
        raise SiteError(f"adapterhub.init takes a transformers model, not a {type(model).__name__}")
    original = type(model)
    model.__class__ = adapter_class(original)
    try:
        model.init_adapters(sites if interface is None else interface)
        if adapters_config is not None:
            _add_all(model, adapters_config)
    except BaseException:
        model.__class__ = original
        for name in ("engine", "adapter_interface"):
            model.__dict__.pop(name, None)
        for name in ("adapters", "fusions", "vocabularies"):
            model._modules.pop(name, None)
        raise
    return model


def _add_all(model: AdapterMixin, given: ModelAdaptersConfig | Mapping[str, Any]) -> None:
    config = given if isinstance(given, ModelAdaptersConfig) else ModelAdaptersConfig.from_dict(given)
    for name, one in config.configs.items():
        model.add_adapter(name, config=one)
    for name, (fusion, adapters) in config.fusion_configs.items():
        model.add_adapter_fusion(adapters, fusion, name=name)


def load_model(
    model_name_or_path: str | PathLike[str],
    model_class: Any,
    interface: AdapterModelInterface | Sites | None = None,
    *model_args: Any,
    **kwargs: Any,
) -> Any:
    """Load a model of any transformers class (or ``Auto`` class) with the adapters that ``save_pretrained`` wrote.

    Arguments are those of ``from_pretrained``. ``interface`` describes its sites by hand, by default as the
    ``adapter_interface.json`` beside the model does, if there is one.

    Raises:
        SiteError: if no site is found in the model.
    """
    if model_class is AutoAdapterModel or issubclass(model_class, AdapterMixin):
        return model_class.from_pretrained(model_name_or_path, *model_args, **kwargs)
    return _with_adapters(
        model_class.from_pretrained(model_name_or_path, *model_args, **kwargs), model_name_or_path, kwargs, interface
    )


def _with_adapters(
    model: PreTrainedModel,
    name_or_path: str | PathLike[str],
    options: Mapping[str, Any],
    interface: AdapterModelInterface | Sites | None = None,
) -> PreTrainedModel:
    """A model that was loaded without its adapters, with them."""
    made: Any = init(model, interface=interface or AdapterModelInterface.load(Path(name_or_path)))
    native.restore(made, name_or_path, options)
    return cast(PreTrainedModel, made)


class AutoAdapterModel:
    """The base model of any architecture with adapters and flexible heads, from a name or a configuration."""

    def __init__(self) -> None:
        raise TypeError("AutoAdapterModel is made by from_pretrained(name) or from_config(config)")

    @staticmethod
    def from_pretrained(name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> PreTrainedModel:
        """Load a model with adapters and flexible heads.

        A head that the checkpoint brings (``RobertaForMaskedLM``, say) is kept as the head ``"default"``, and is
        active. Adapters and heads that ``save_pretrained`` wrote with the model come back. Arguments are those of
        ``transformers.AutoModel.from_pretrained``.

        Raises:
            SiteError: if no site is found in the model.
        """
        config = kwargs.pop("config", None) or AutoConfig.from_pretrained(name_or_path, **_for_config(kwargs))
        return flexible_class(_base_class(config)).from_pretrained(name_or_path, *args, config=config, **kwargs)

    @staticmethod
    def from_config(config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
        """A model with random weights.

        Raises:
            SiteError: if no site is found in the model.
        """
        return flexible_class(_base_class(config))._from_config(config, **kwargs)


AutoModelWithHeads = AutoAdapterModel


def model_class(name: str) -> type | None:
    """The class behind a name that is not written down: ``AutoModelForX``, ``XAdapterModel``, ``XModelWithHeads``."""
    if name.startswith("AutoModel") and hasattr(transformers, name):
        return _auto_class(name)
    base = _extended(name)
    return None if base is None else flexible_class(base)


def _extended(name: str) -> type[PreTrainedModel] | None:
    """The class ``XModel`` behind the name ``XAdapterModel`` or ``XModelWithHeads``."""
    for ending in ("AdapterModel", "ModelWithHeads"):
        for kind in ("Model", "Encoder"):  # BertGeneration's base model is an Encoder by name
            base = getattr(transformers, name.removesuffix(ending) + kind, None)
            if name.endswith(ending) and isinstance(base, type) and issubclass(base, PreTrainedModel):
                return base
    return None


@cache
def _auto_class(name: str) -> type:
    """The ``Auto`` class of that name, which makes models with adapters."""
    original = getattr(transformers, name)

    def from_pretrained(name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> PreTrainedModel:
        return _with_adapters(original.from_pretrained(name_or_path, *args, **kwargs), name_or_path, kwargs)

    def from_config(config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
        return init(original.from_config(config, **kwargs))

    doc = f"``transformers.{name}``, of which every model is ready for adapters."
    methods = {"from_pretrained": staticmethod(from_pretrained), "from_config": staticmethod(from_config)}
    return type(name, (), {"__doc__": doc, "__module__": __name__, **methods})


def _base_class(config: PretrainedConfig) -> Any:
    """The base model of an architecture, or the part of it that a checkpoint holds alone (``T5EncoderModel``)."""
    name = (config.architectures or [""])[0]
    if base := _extended(name):
        return base
    saved_as = getattr(transformers, name, None)
    if isinstance(saved_as, type) and issubclass(saved_as, PreTrainedModel):
        with suppress(HeadError), torch.device("meta"):
            inner = type(base_of(cast(Any, saved_as)(deepcopy(config))))
            if inner.__name__.endswith("Model"):
                return inner
    known = MODEL_MAPPING.get(type(config), None)
    if known is None:
        raise SiteError(f"transformers has no base model for {type(config).__name__}")
    return known[0] if isinstance(known, tuple) else known


def _for_config(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those arguments of from_pretrained that say where and in which version the files are."""
    names = (
        "revision",
        "subfolder",
        "token",
        "cache_dir",
        "local_files_only",
        "force_download",
        "trust_remote_code",
    )
    return {name: kwargs[name] for name in names if name in kwargs}
