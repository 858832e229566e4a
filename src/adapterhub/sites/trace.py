"""Observation of one forward pass: which module read and wrote which value, and which values were added.

Tensors are followed by object identity. Every distinct result gets a number, its *value*; operations that only
rescale or reshape a value are remembered as its *origin*, so a sum can be led back to the modules that made its terms.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ADDITIONS = {
    torch.add,
    Tensor.add,
    Tensor.add_,
    Tensor.__add__,
    Tensor.__radd__,
    Tensor.__iadd__,
}


@dataclass
class Call:
    """One call of a module: its path, the values it read first and wrote first, and when."""

    path: str
    start: int
    input: int | None
    end: int = -1
    output: int | None = None
    width: int = 0  # size of the last dimension of the output
    input_width: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    positional: bool = True  # whether its first tensor was given without a name


@dataclass
class Trace:
    """A recorded forward pass."""

    calls: list[Call] = field(default_factory=list)
    terms: dict[int, tuple[int, int]] = field(default_factory=dict)  # value of a sum -> values of its two terms
    origin: dict[int, int] = field(default_factory=dict)  # value -> the value it was rescaled or reshaped from
    born: dict[int, int] = field(default_factory=dict)  # value -> time of its making

    @cached_property
    def writers(self) -> dict[int, list[Call]]:
        """Calls by the value that they yield, each list in order of ending."""
        calls: dict[int, list[Call]] = {}
        for call in sorted(self.calls, key=lambda call: call.end):
            if call.output is not None:
                calls.setdefault(call.output, []).append(call)
        return calls

    @cached_property
    def readers(self) -> dict[int, list[Call]]:
        """Calls by the value that they take first, in order of starting; those that only hand it on are left out."""
        calls: dict[int, list[Call]] = {}
        for call in self.calls:
            if call.input is not None and call.input != call.output:
                calls.setdefault(call.input, []).append(call)
        return calls

    @cached_property
    def first_calls(self) -> dict[str, Call]:
        """The first call of each module that ran, by path."""
        calls: dict[str, Call] = {}
        for call in self.calls:
            calls.setdefault(call.path, call)
        return calls

    def source(self, value: int) -> int:
        """Follow ``value`` back through rescaling and reshaping to one that a module or an addition made, or a module
        reads."""
        while value in self.origin and not (value in self.writers or value in self.terms or value in self.readers):
            value = self.origin[value]
        return value


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module passes on: the value itself, or the first item of a tuple or model output."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], Tensor):
        return value[0]
    return None


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.clock = 0
        self._values: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is only unique while its object lives
        self._open: list[Call] = []
        self._paused = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def value(self, tensor: Tensor) -> int:
        """The number of a tensor's present content; a tensor not seen before gets a new one."""
        known = self._values.get(id(tensor))
        return known if known is not None else self._renew(tensor)

    def _renew(self, tensor: Tensor) -> int:
        number = len(self.trace.born)
        self._values[id(tensor)] = number
        self._alive.append(tensor)
        self.trace.born[number] = self.tick()
        return number

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._paused:
            return func(*args, **(kwargs or {}))
        read = [(t, self._values.get(id(t))) for t in args if isinstance(t, Tensor)]
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        with self.paused():
            self._record(func, read, result)
        return result

    def _record(self, func: Callable[..., Any], read: list[tuple[Tensor, int | None]], result: Tensor) -> None:
        operands = [
            (tensor, self.value(tensor) if number is None else number)
            for tensor, number in read
            if not isinstance(tensor, nn.Parameter) and tensor.numel() == result.numel()
        ]
        unchanged = any(tensor is result for tensor, _ in operands)
        if func in _ADDITIONS and len(operands) == 2:
            self.trace.terms[self._renew(result)] = (operands[0][1], operands[1][1])
        elif unchanged and func not in _ADDITIONS and not _writes_in_place(func):
            return  # dropout in evaluation, ``.to`` of the same type: the same content
        elif len(operands) == 1 and not getattr(func, "__name__", "").endswith("_like"):
            self.trace.origin[self._renew(result)] = operands[0][1]
        else:
            self._renew(result)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def enter(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with self.paused():
                given = args or tuple(v for v in kwargs.values() if isinstance(v, Tensor))[:1]
                tensor = first_tensor(given)
                number = None if tensor is None else self.value(tensor)
                width = tensor.shape[-1] if tensor is not None and tensor.dim() else 0
                shape = () if tensor is None else tuple(tensor.shape)
                call = Call(path, self.tick(), number, -1, None, 0, width, shape, positional=bool(args))
                self._open.append(call)
                self.trace.calls.append(call)

        return hook

    def leave(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            with self.paused():
                call = self._open.pop()
                tensor = first_tensor(output)
                if tensor is not None:
                    call.output, call.output_shape = self.value(tensor), tuple(tensor.shape)
                    call.width = tensor.shape[-1] if tensor.dim() else 0
                call.end = self.tick()

        return hook


def record(model: nn.Module, run: Callable[[], Any]) -> Trace:
    """Run ``run`` and record what the modules of ``model`` read, wrote and added.

    The model is put in evaluation mode for the run and set back to what it was, the random state with it.
    """
    recorder = _Recorder()
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path:
                enter = module.register_forward_pre_hook(recorder.enter(path), with_kwargs=True)
                stack.callback(enter.remove)
                stack.callback(module.register_forward_hook(recorder.leave(path)).remove)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        model.eval()
        stack.callback(_restore, modes)
        stack.enter_context(recorder)
        run()
    return recorder.trace


def _restore(modes: Mapping[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _writes_in_place(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
