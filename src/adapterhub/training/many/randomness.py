"""Random numbers of a run of its own, so that what it draws beside others is what it draws alone."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub.training.dropout import step_seed


class OwnRandomness:
    """Has modules draw from a sequence of their own, one after another, and not from the one that all share.

    What comes between them (modules of other runs) draws elsewhere, and changes nothing of theirs.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._states = _states()
        self._outside: list[Tensor] = []
        for module in modules:
            module.register_forward_pre_hook(self._enter, prepend=True)
            module.register_forward_hook(self._leave, always_call=True)

    def seed(self, seed: int, step: int) -> None:
        """Begin the sequence of a step, as ``SeededSteps`` does for a run alone."""
        number = step_seed(seed, step)
        self._states = [torch.Generator(device).manual_seed(number).get_state() for device in _devices()]

    def _enter(self, module: nn.Module, args: Any) -> None:
        if module.training:
            self._outside = _states()
            _set(self._states)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training:
            self._states = _states()
            _set(self._outside)


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _states() -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _set(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
