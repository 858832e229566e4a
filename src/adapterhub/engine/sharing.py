"""Parameters that several adapters hold in common: one set of them, trained by all.

A module of a method says in ``shareable`` the names of those of its parameters for which that has meaning.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adapterhub.engine.adapter import Adapter
from adapterhub.errors import ConfigError


@torch.no_grad()
def share(adapters: Sequence[Adapter], group: str, reference: Adapter) -> None:
    """Make all of ``adapters`` hold one set of what their method shares, with the values of ``reference``.

    Each leaves the group that it was in.

    Raises:
        ConfigError: for a method that shares nothing, or adapters that are not alike; nothing is changed.
    """
    for adapter in adapters:
        _check_alike(adapter, reference)
    common = {path: _copy(module, name) for path, module, name in _held(reference)}
    for adapter in adapters:
        for path, module, name in _held(adapter):
            module._parameters[name] = common[path]
        adapter.group = group


@torch.no_grad()
def unshare(adapter: Adapter) -> None:
    """Give an adapter parameters of its own, with the values of those that it shares."""
    for _, module, name in _held(adapter):
        module._parameters[name] = _copy(module, name)


def groups(adapters: Iterable[Adapter]) -> dict[str, tuple[Adapter, ...]]:
    """Adapters that hold the same parameters, by the names of their groups."""
    alike: dict[int, list[Adapter]] = {}
    for adapter in adapters:
        for _, module, name in _held(adapter)[:1]:
            alike.setdefault(id(module._parameters[name]), []).append(adapter)
    return {members[0].group: tuple(members) for members in alike.values() if len(members) > 1}


def names_by_group(adapters: Iterable[Adapter]) -> dict[str, list[str]]:
    """``groups`` with the names of adapters in their place."""
    return {group: [adapter.name for adapter in members] for group, members in groups(adapters).items()}


def sharing_with(adapter: Adapter, adapters: Iterable[Adapter]) -> tuple[Adapter, ...]:
    """An adapter and all of ``adapters`` that share with it."""
    return next((members for members in groups(adapters).values() if adapter in members), (adapter,))


def unequal(adapter: Adapter, other: Adapter) -> str | None:
    """The path of a parameter that two adapters could share, and of which they hold unlike values."""
    wanted = {path: module.get_parameter(name) for path, module, name in _held(other)}
    return next(
        (p for p, m, name in _held(adapter) if p not in wanted or not torch.equal(m.get_parameter(name), wanted[p])),
        None,
    )


def with_copies(tensors: Mapping[str, Tensor], adapters: Iterable[Adapter], prefix: str) -> dict[str, Tensor]:
    """``tensors``, those of ``adapters`` under ``prefix`` among them, with a copy of what is shared for each adapter.

    A file of tensors cannot hold one under two names.
    """
    copied = dict(tensors)
    for _, *others in groups(adapters).values():
        for path in (f"{prefix}{adapter.name}.{path}" for adapter in others for path, *_ in _held(adapter)):
            if path in copied:
                copied[path] = copied[path].clone()
    return copied


def _check_alike(adapter: Adapter, reference: Adapter) -> None:
    own, wanted = (
        {path: (type(module).__name__, tuple(getattr(module, name).shape)) for path, module, name in _held(one)}
        for one in (adapter, reference)
    )
    if not own:
        raise ConfigError(
            f"adapter {adapter.name!r} is of the method {adapter.config.method!r}, which has no parameters that could "
            "be shared ('mtl_lora' has)"
        )
    unlike = next((path for path in (*wanted, *own) if own.get(path) != wanted.get(path)), None)
    if unlike is not None:
        raise ConfigError(
            f"adapters {adapter.name!r} and {reference.name!r} are not alike, so they cannot share their parameters: "
            f"{unlike} is {own.get(unlike, 'not there')} in the one and {wanted.get(unlike, 'not there')} in the other"
        )


def _held(adapter: Adapter) -> list[tuple[str, nn.Module, str]]:
    """What of an adapter may be shared: its path, and the module that holds it under which name."""
    return [
        (f"{path}.{name}", module, name)
        for path, module in adapter.named_modules()
        for name in getattr(module, "shareable", ())
        if module._parameters.get(name) is not None
    ]


def _copy(module: nn.Module, name: str) -> nn.Parameter:
    parameter = module.get_parameter(name)
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
