"""Classes made on demand: a transformers class with adapters, and its base class with flexible heads.

A model's own class is only ever extended, by one mixin and under the same name; its modules and their classes stay.
"""

import logging
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
)

from adapterhub.model import AdapterMixin
from adapterhub.model.arguments import ArgumentsMixin
from adapterhub.model.flexible import FlexibleAdapterMixin

_made: dict[tuple[type, type], type[Any]] = {}
_FLEXIBLE = "AdapterModel"


def adapter_class(model_class: type[PreTrainedModel]) -> type[Any]:
    """``model_class`` with adapters, under its own name."""
    return _extend(AdapterMixin, model_class, model_class.__name__)


def flexible_class(model_class: type[PreTrainedModel]) -> type[Any]:
    """The base class ``XModel`` with adapters and flexible heads, as ``XAdapterModel``; it generates if X can."""
    name = model_class.__name__.removesuffix("Model") + _FLEXIBLE
    more = (GenerationMixin,) if _generates(model_class) and not issubclass(model_class, GenerationMixin) else ()
    return _extend(FlexibleAdapterMixin, model_class, name, *more)


def _extend(mixin: type, model_class: type[PreTrainedModel], name: str, *more: type) -> type[Any]:
    def reduce(self: nn.Module, protocol: Any) -> Any:
        # A class made on demand has no name that pickle could find it by: say how to make it again.
        parts: Any = nn.Module.__reduce_ex__(self, protocol)
        return _blank, (mixin, model_class), *parts[2:]

    key = (mixin, model_class)
    if key not in _made:
        body = {"__module__": model_class.__module__, "__doc__": model_class.__doc__, "__reduce_ex__": reduce}
        _made[key] = type(name, (ArgumentsMixin, mixin, model_class, *more), body)
    return _made[key]


def _blank(mixin: type, model_class: type[PreTrainedModel]) -> Any:
    """An instance without state, for pickle and deepcopy to fill."""
    made: Any = adapter_class(model_class) if mixin is AdapterMixin else flexible_class(model_class)
    return made.__new__(made)


def _generates(model_class: type[PreTrainedModel]) -> bool:
    config_class = model_class.config_class
    sequence_to_sequence = (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING)
    causal = config_class in MODEL_FOR_CAUSAL_LM_MAPPING and config_class not in MODEL_FOR_MASKED_LM_MAPPING
    return causal or any(config_class in mapping for mapping in sequence_to_sequence)


def _is_true(record: logging.LogRecord) -> bool:
    """Pipelines tell of any class that is not on their list that it is not supported; ours work by their heads."""
    return f"{_FLEXIBLE}' is not supported for" not in record.getMessage()


logging.getLogger("transformers.pipelines.base").addFilter(_is_true)
