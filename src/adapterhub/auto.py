"""Models with adapters, from a name: the counterparts of the ``Auto`` classes of transformers."""

from collections.abc import Callable
from typing import Any, TypeVar

import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from adapterhub.classes import adapter_class, flexible_class
from adapterhub.errors import SiteError
from adapterhub.model import AdapterMixin
from adapterhub.sites import Sites

M = TypeVar("M", bound=PreTrainedModel)


def init(model: M, sites: Sites | None = None) -> M:
    """Make an existing transformers model ready for adapters, in place; a model that is ready already stays as it is.

    ``sites`` describes by hand where adapters act, for a model in which discovery finds nothing.

    Raises:
        SiteError: if ``model`` is no transformers model, or has no sites; it is left as it was.
    """
    if isinstance(model, AdapterMixin):
        return model
    if not isinstance(model, PreTrainedModel):
        raise SiteError(f"adapterhub.init takes a transformers model, not a {type(model).__name__}")
    original = type(model)
    model.__class__ = adapter_class(original)
    try:
        model.init_adapters(sites)  # type: ignore[attr-defined]
    except BaseException:
        model.__class__ = original
        raise
    return model
