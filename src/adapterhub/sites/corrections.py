"""The few architectures whose smallest input cannot be guessed from names: model type -> change of the input."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

Given = dict[str, Any]


def _twice(model: PreTrainedModel, given: Given) -> Given:
    """Twice as many tokens: it pools them, two by two, several times."""
    return {name: value.repeat(1, 2) if name.endswith(("ids", "mask")) else value for name, value in given.items()}


CORRECTIONS: dict[str, Callable[[PreTrainedModel, Given], Given]] = {"funnel": _twice}
