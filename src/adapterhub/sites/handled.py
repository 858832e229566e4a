"""Modules that ask transformers for their function by the configuration that they hold.

Such a module is given a copy of that configuration, which names our function, and a handler for it. Nothing else of the
model reads the copy.
"""

import copy
from typing import Any

from torch import nn
from transformers import PretrainedConfig

NAME = "adapterhub"  # under which our functions are registered


def install(module: nn.Module, setting: str, handler: Any) -> None:
    """Have the function of ``module``, which ``setting`` of its configuration names, be ours, with ``handler``."""
    own: Any = copy.copy(module.config)
    own.original, own.handler = module.config, handler
    setattr(own, setting, NAME)
    module.config = own


def remove(module: nn.Module) -> None:
    """Undo ``install``."""
    module.config = original_config(module)


def handler_of(module: nn.Module) -> Any:
    """The handler; None if another thread removed it since the module looked for its function."""
    return getattr(module.config, "handler", None)


def original_config(module: nn.Module) -> PretrainedConfig:
    """The configuration that a module had before ``install``."""
    config: Any = module.config
    return getattr(config, "original", config)
