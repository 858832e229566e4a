"""The attention function of a model, reached through transformers' attention interface.

Our function lets the handler of a module change keys, values and mask, and calls the one that was named before.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapterhub.sites import handled

_SETTING = "_attn_implementation_internal"
# Of (module, query, key, value, mask, other arguments) to (key, value, mask, other arguments).
Given = tuple[Tensor, Tensor, Any, dict[str, Any]]
Handler = Callable[[nn.Module, Tensor, Tensor, Tensor, Any, dict[str, Any]], Given]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **kwargs: Any
) -> Any:
    """The registered function: attention as before, with what the module's handler makes of its arguments."""
    handler: Handler | None = handled.handler_of(module)
    if handler is not None:
        key, value, attention_mask, kwargs = handler(module, query, key, value, attention_mask, kwargs)
    return original(module)(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(handled.NAME, attend)


def dispatches(module: nn.Module) -> bool:
    """Whether a module asks the attention interface for its function, by a configuration of its own."""
    if not isinstance(getattr(module, "config", None), PretrainedConfig):
        return False
    try:
        return ".get_interface(" in inspect.getsource(type(module).forward)
    except (OSError, TypeError):
        return False


def install(module: nn.Module, handler: Handler) -> None:
    """Have ``handler`` change what the attention function of ``module`` gets."""
    handled.install(module, _SETTING, handler)


def implementation(module: nn.Module) -> str:
    """The name of the attention that a module had before ``install``."""
    return str(handled.original_config(module)._attn_implementation)


def original(module: nn.Module) -> Callable[..., Any]:
    """The function that a module had before ``install``."""
    eager = next(
        found
        for kind in type(module).__mro__
        if (found := getattr(sys.modules[kind.__module__], "eager_attention_forward", None)) is not None
    )
    return ALL_ATTENTION_FUNCTIONS.get_interface(implementation(module), eager)


class Watched(NamedTuple):
    """What an attention function got: heads of the keys, widths of a key and of a value; and how often it ran.

    ``first_biased`` is the path of the module that got the same position bias first, None where there is no bias.
    """

    heads: int
    key_width: int
    value_width: int
    calls: int
    first_biased: str | None


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Watched]]:
    """What every attention function that runs inside gets."""
    found: dict[str, Watched] = {}
    modules = {path: module for path, module in model.named_modules() if dispatches(module)}
    biases: list[tuple[Tensor, str]] = []

    def first_biased(path: str, bias: Any) -> str | None:
        if not isinstance(bias, Tensor):
            return None
        first = next((first for known, first in biases if known is bias), path)
        biases.append((bias, first))
        return first

    def keep(path: str) -> Handler:
        def handler(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
        ) -> Given:
            calls = found[path].calls + 1 if path in found else 1
            first = first_biased(path, kwargs.get("position_bias"))
            found[path] = Watched(key.shape[1], key.shape[-1], value.shape[-1], calls, first)
            return key, value, mask, kwargs

        return handler

    for path, module in modules.items():
        install(module, keep(path))
    try:
        yield found
    finally:
        for module in modules.values():
            handled.remove(module)
