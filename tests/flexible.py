"""Base models with flexible heads and no adapters, for the tests of heads."""

import copy
from functools import cache
from typing import Any

import torch
import transformers as tf
from transformers import GenerationMixin, PreTrainedModel

import tiny
from adapterhub.heads import FlexibleHeadsMixin, base_of


@cache
def flexible_class(base: type[PreTrainedModel]) -> Any:
    """``base`` with flexible heads."""
    return type(base.__name__.replace("Model", "AdapterModel"), (FlexibleHeadsMixin, base, GenerationMixin), {})


def make(family: str, seed: int = 0, **changes: object) -> Any:
    """A tiny random base model of the family with flexible heads, in evaluation mode."""
    name = "Gemma3TextModel" if family == "gemma3" else tiny.FAMILIES[family][0] + "Model"
    torch.manual_seed(seed)
    return flexible_class(getattr(tf, name))(tiny.config(family, **changes)).eval()


def around(model: PreTrainedModel) -> Any:
    """The base model of ``model``, as a copy, with flexible heads and none yet."""
    base: Any = copy.deepcopy(base_of(model))
    base.__class__ = flexible_class(type(base))
    base.generation_config = copy.deepcopy(getattr(model, "generation_config", None))
    base.init_heads()
    return base.eval()
