"""The few architectures whose smallest input cannot be guessed from names: model type -> change of the input."""

from collections.abc import Callable
from typing import Any

CORRECTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
