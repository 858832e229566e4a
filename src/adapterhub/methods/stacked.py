"""Modules of one shape run as one: with their parameters stacked, each for rows of its own.

The maths stays where it is, in the module of a method. Where that says that it ``takes_stacks`` (of a plain bottleneck,
of a plain LoRA), it is given parameters ``[n, ...]`` and inputs ``[n, rows, ...]`` at once, and its linear maps are
batched matrix products, or on a GPU one kernel (``gathered.py``); every other method runs under ``torch.vmap``, which
takes ten times as long to begin.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapterhub.methods import gathered
from adapterhub.methods.base import bare_copy

Holder = tuple[dict[str, Any], str]  # where a tensor is kept, and under which name


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``[..., in]`` with a weight ``[out, in]``; ``[n, ..., in]`` with ``[n, out, in]`` and a bias ``[n, out]``."""
    if weight.dim() == 2:
        return F.linear(inputs, weight, bias)
    rows = inputs.flatten(1, -2)
    made = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return made.unflatten(1, inputs.shape[1:-1])


class StackableLinear(nn.Linear):
    """``nn.Linear`` that takes stacked parameters too."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        return linear(input, self.weight, self.bias)


def beside(parameter: Tensor, like: Tensor) -> Tensor:
    """``parameter`` in a shape that broadcasts with ``like``: as it is ``[width]``, of a stack ``[n, ..., width]``."""
    return parameter if parameter.dim() < 2 else parameter.view(len(parameter), *(1,) * (like.dim() - 2), -1)


class Unit(nn.Module):
    """A part of an adapter, and every module beside it whose parameters it reads.

    These are what ``fixed``, its last arguments, hold (a norm of the adapter's own), and what it shares with others.
    """

    def __init__(self, part: nn.Module, fixed: Sequence[Any] = ()) -> None:
        super().__init__()
        self.part = part
        self.fixed = nn.ModuleDict({str(at): one for at, one in enumerate(fixed) if isinstance(one, nn.Module)})
        inside = [module for own in (part, *self.fixed.values()) for module in own.modules()]
        shared = {id(one): one for module in inside for one in getattr(module, "_shared", ())}
        self.shared = nn.ModuleList(shared.values())

    def forward(self, method: str, args: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """What ``method`` of the part gives for ``args``, and ``fixed`` after them."""
        if self.fixed:
            own = {int(at): one for at, one in self.fixed.items()}
            fixed = [own.get(at, one) for at, one in enumerate(fixed)]
        return getattr(self.part, method)(*args, *fixed)

    def holders(self) -> dict[str, Holder]:
        """Where each of its tensors is kept, by their paths."""
        found: dict[str, Holder] = {}
        for path, module in self.named_modules():
            for kept in (module._parameters, module._buffers):
                found |= {f"{path}.{name}": (kept, name) for name, value in kept.items() if value is not None}
        return found

    def takes_stacks(self, fixed: Sequence[Any]) -> bool:
        """Whether it can be given stacked parameters."""
        says: Any = getattr(self.part, "takes_stacks", None)
        return says is not None and not self.fixed and not self.shared and says(*fixed)

    def gathers(self, tensors: Sequence[Tensor], method: str, args: Sequence[Any], fixed: Sequence[Any]) -> bool:
        """Whether one kernel does ``method`` with stacked parameters, taking those of each row out of them."""
        says: Any = getattr(self.part, "gathers", None)
        known = says is not None and hasattr(self.part, f"gathered_{method}")
        return known and gathered.runs(tensors, args) and self.takes_stacks(fixed) and says()


class Stacked:
    """Runs units of one shape as one. It holds none of their tensors: these are told at each call."""

    def __init__(self, unit: Unit) -> None:
        self.part = unit.part
        self.names = tuple(unit.holders())
        self._hollow = {training: Hollow(unit, training) for training in (False, True)}
        self._lock = Lock()

    def run(
        self,
        tensors: Sequence[Tensor],
        method: str,
        args: Sequence[Any],
        fixed: Sequence[Any] = (),
        stacked: bool = True,
        training: bool = False,
        which: Tensor | None = None,
    ) -> Any:
        """What ``method`` of the part gives.

        Args:
            tensors: those of a unit, in the order of ``names``; if ``stacked``, those of several, ``[n, ...]`` each, or
                with ``which`` of any number.
            method: ``"forward"``, ``"update"``, ``"reads"`` or ``"inverse"``.
            args: its first arguments; tensors are ``[n, rows, ...]`` if ``stacked``.
            fixed: its last arguments, which all have in common; modules in their place stand for those of the unit.
            stacked: whether there are several; without it, one runs as it would by itself.
            training: whether what acts in training alone (dropout) acts.
            which: the units to run, ``[n]``, by their places in ``tensors``; None: each once, in turn.

        Returns:
            What the part returns: tensors ``[n, rows, ...]`` if ``stacked``.
        """
        hollow = self._hollow[training]
        if stacked and hollow.unit.gathers(tensors, method, args, fixed):
            method, args = f"gathered_{method}", (which, *args)
        elif which is not None:
            # A copy for each row: next to a forward pass of 32 tokens, 1 % of its time on a CPU.
            tensors = [one.index_select(0, which.to(one.device)) for one in tensors]
        if torch.compiler.is_compiling():
            return self._mapped(hollow, hollow.traced, tensors, method, args, fixed, stacked)
        with self._lock:  # there is one hollow unit for all threads
            try:
                return self._mapped(hollow, hollow.filled, tensors, method, args, fixed, stacked)
            finally:
                hollow.fill(hollow.values)  # a tensor kept here would outlive the call

    def _mapped(
        self,
        hollow: "Hollow",
        call: Callable[..., Any],
        tensors: Sequence[Tensor],
        method: str,
        args: Sequence[Any],
        fixed: Sequence[Any],
        stacked: bool,
    ) -> Any:
        if not stacked or hollow.unit.takes_stacks(fixed):
            return call(tensors, method, args, fixed)

        def one(tensors: Sequence[Tensor], *args: Any) -> Any:
            return call(tensors, method, args, fixed)

        return torch.vmap(one, randomness="different")(tuple(tensors), *args)


class Hollow:
    """A copy of a unit without values, and what puts some into it."""

    def __init__(self, unit: Unit, training: bool) -> None:
        self.unit: Unit = skeleton(unit, {}).train(training)
        holders = self.unit.holders()
        self.names, self._holders = tuple(holders), tuple(holders.values())
        self.values = tuple(kept[name] for kept, name in self._holders)

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Put tensors in the place of its own, in the order of ``names``."""
        for (kept, name), tensor in zip(self._holders, tensors, strict=True):
            kept[name] = tensor

    def filled(self, tensors: Sequence[Tensor], method: str, args: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """What the unit gives with these tensors, which stay in it."""
        self.fill(tensors)
        return self.unit.forward(method, args, fixed)

    def traced(self, tensors: Sequence[Tensor], method: str, args: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """As ``filled``, in a way that torch.compile follows."""
        return torch.func.functional_call(self.unit, dict(zip(self.names, tensors, strict=True)), (method, args, fixed))


def skeleton(module: Any, known: dict[int, Any]) -> Any:
    """A copy of a module without its hooks and the values of its tensors; what is in ``known`` (by id) is copied."""
    if id(module) not in known:
        made = known[id(module)] = bare_copy(module)
        made._parameters = {name: _hollow(one) for name, one in module._parameters.items()}
        made._buffers = {name: _hollow(one) for name, one in module._buffers.items()}
        made._modules = {name: one and skeleton(one, known) for name, one in module._modules.items()}
        if "_shared" in module.__dict__:
            made._shared = tuple(skeleton(one, known) for one in module._shared)
    return known[id(module)]


def _hollow(tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    made = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


class Lock:
    """One that may be copied and pickled with what it is for: the copy has a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()
