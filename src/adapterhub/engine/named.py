"""A mapping from names that people choose to modules."""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from torch import nn

from adapterhub.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

# The modules that this package adds to a model: paths that begin so are no part of the base model.
ADDED = ("adapters", "fusions", "heads", "vocabularies")
_Module: Any = nn.Module if TYPE_CHECKING else object


class NamedModules(nn.Module, Generic[M]):
    """Submodules by name; any name goes that can be part of a state-dict key (not empty, no ``"."``).

    Unlike in ``nn.ModuleDict``, names such as ``train`` or ``type``, which are attributes of every module,
    are names like any other: modules are reached by ``[]`` alone.
    """

    def __setattr__(self, name: str, value: object) -> None:
        # A module set as an attribute is what torch's ``set_submodule`` does. Anything else is state of this
        # object itself (``training``), which a submodule of the same name must not stand in the way of.
        if isinstance(value, nn.Module):
            self._modules[name] = value
        else:
            object.__setattr__(self, name, value)

    def __getitem__(self, name: str) -> M:
        return cast(M, self._modules[name])

    def __setitem__(self, name: str, module: M) -> None:
        """Hold ``module`` under ``name``, in place of what was there.

        Raises:
            ConfigError: for a name that cannot be part of a state-dict key, or a value that is no module.
        """
        check_name(name)
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{name!r}: expected an nn.Module, got {type(module).__name__}")
        self._modules[name] = module

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def get_submodule(self, target: str) -> nn.Module:
        """As in torch, which finds submodules as attributes, and so would not find one called ``train``."""
        name, _, rest = target.partition(".")
        if not target:
            return self
        if name not in self:
            raise AttributeError(f"there is no module {name!r} here")
        return self[name].get_submodule(rest)

    def get(self, name: str) -> M | None:
        """The module called ``name``, or None."""
        return cast("M | None", self._modules.get(name))

    def keys(self) -> KeysView[str]:
        """Names, in the order in which they were added."""
        return self._modules.keys()

    def values(self) -> ValuesView[M]:
        """Modules, in the order in which they were added."""
        return cast(ValuesView[M], self._modules.values())

    def items(self) -> ItemsView[str, M]:
        """Names and modules, in the order in which they were added."""
        return cast(ItemsView[str, M], self._modules.items())


class HoldsNamedModules(_Module):
    """A module of which attributes are ``NamedModules``: any of their names can be part of a path."""

    def get_submodule(self, target: str) -> nn.Module:
        """As in torch, and also where a name is that of an attribute which every module has."""
        first, _, rest = target.partition(".")
        part = self._modules.get(first)
        return part.get_submodule(rest) if isinstance(part, NamedModules) else super().get_submodule(target)


def check_name(name: object) -> None:
    """Pass a name that can be part of a state-dict key.

    Raises:
        ConfigError: for anything else, saying what is wrong with it.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a name must be a string that is not empty, got {name!r}")
    if "." in name:
        raise ConfigError(f'the name {name!r} contains a "."; write {name.replace(".", "_")!r} or another name')
