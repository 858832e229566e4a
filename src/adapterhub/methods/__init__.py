"""Methods of adaptation, one file each; importing the package registers them all."""

from importlib import import_module
from pkgutil import iter_modules

from adapterhub.methods.base import AdapterConfig, Mergeable, MergeableNorm, Modules, Place, Vocabulary, Weight
from adapterhub.methods.registry import (
    DEFAULT_CONFIG,
    get_adapter_config_hash,
    load_config,
    named_configs,
    register,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DEFAULT_CONFIG",
    "AdapterConfig",
    "Mergeable",
    "MergeableNorm",
    "Modules",
    "Place",
    "Vocabulary",
    "Weight",
    "get_adapter_config_hash",
    "load_config",
    "named_configs",
    "register",
]
