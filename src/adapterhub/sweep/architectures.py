"""Every architecture that transformers knows, as a small random model."""

import inspect
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from adapterhub.sweep.exceptions import SETTINGS
from adapterhub.sweep.shrink import parts, shrunk

_SCALES = (8, 4, 2, 1, 16)  # tried in turn: in some architectures the smaller ones do not fit; the largest need more
_LARGEST = 150_000_000  # parameters
_NOISE = 0.1


class NotBuiltError(Exception):
    """An architecture of which no small model could be made."""


def names() -> tuple[str, ...]:
    """The types of all base models that transformers knows."""
    return tuple(MODEL_MAPPING_NAMES)


def builds(name: str, seed: int = 0) -> Iterator[PreTrainedModel]:
    """Small random models of an architecture, in evaluation mode, the smallest one first: in some it does not fit.

    Raises:
        NotBuiltError: if there is none, and why.
    """
    problems: list[str] = []
    found = False
    for scale in _SCALES:
        try:
            model = _build(name, scale, seed)
        except ImportError as error:
            raise NotBuiltError(_wanted(error)) from error
        except Exception as error:  # any model's code may run here
            problems.append(str(error) if isinstance(error, NotBuiltError) else f"{type(error).__name__}: {error}")
        else:
            found = True
            yield model
    if not found:
        raise NotBuiltError(problems[0])


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """The first of ``builds``."""
    return next(builds(name, seed))


def _build(name: str, scale: int, seed: int) -> PreTrainedModel:
    config, model_class = shrunk(_default(name), scale), _class(name)
    with torch.device("meta"):
        size = sum(one.numel() for one in model_class._from_config(deepcopy(config)).parameters())
    if size > _LARGEST:
        raise NotBuiltError(f"a small one still has {size / 1e6:.0f} million parameters")
    torch.manual_seed(seed)
    return _varied(model_class._from_config(config).float().eval())


def reads_text(model: PreTrainedModel) -> bool:
    """Whether a model takes token ids."""
    return bool({"input_ids", "decoder_input_ids"} & set(inspect.signature(model.forward).parameters))


def _class(name: str) -> Any:
    known = MODEL_MAPPING_NAMES[name]
    return getattr(transformers, known if isinstance(known, str) else known[0])


def _default(name: str) -> Any:
    """The default configuration, or of the tower that alone is a base model."""
    config = CONFIG_MAPPING[name](**SETTINGS.get(name, {}))
    wanted = _class(name).config_class
    if not isinstance(config, wanted):
        config = next((part for part in parts(config) if isinstance(part, wanted)), config)
    for part in parts(config):
        if part.__dict__.get("pad_token_id") is None:
            part.__dict__["pad_token_id"] = 0
    return config


def _varied(model: PreTrainedModel) -> PreTrainedModel:
    """Norms and biases start at 1 and 0, and some parameters at 0, which would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not torch.isfinite(parameter).all():  # left empty, for a checkpoint to fill
                nn.init.normal_(parameter, std=0.02)
            if parameter.dim() == 1 or not parameter.any():
                parameter.add_(_NOISE * torch.randn_like(parameter))
    return model


def _wanted(error: ImportError) -> str:
    """Which package is missing, out of the long text that says how to install it."""
    words = str(error).split()
    if "requires" in words:
        at = words.index("requires")
        return f"needs the package {words[at + 2]}, which is not installed"
    return str(error).strip()
