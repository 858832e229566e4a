"""Which modules of a model run before which of its layers, by watching one small pass of the bare model."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.setup import AdapterSetup
from adapterhub.sites import probe
from adapterhub.sites.fused import still
from adapterhub.sites.trace import first_tensor

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine


@dataclass
class RunningOrder:
    """What was seen in a pass of ``target`` (the base model, as a rule) on ``inputs``.

    ``begun`` says how many layers had begun when a module was called first, by its path; ``calls`` how often each layer
    was called. ``gave`` is what layers gave, and ``read`` what the first of them read, which the module at ``source``
    gave, if one did. ``output`` are the tensors that the whole gave.
    """

    target: PreTrainedModel
    inputs: dict[str, Any]
    begun: dict[str, int] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    gave: dict[str, Any] = field(default_factory=dict)
    read: Tensor | None = None
    source: str | None = None
    output: tuple[Tensor, ...] = ()
    _before: list[tuple[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, engine: "Engine") -> "RunningOrder":
        """That of an engine's model, whose layers the engine's sites name.

        Raises:
            SiteError: if no small input is found on which the model runs.
        """
        return probe.run(engine.model, partial(cls._watch, engine))

    @classmethod
    def _watch(cls, engine: "Engine", target: PreTrainedModel, inputs: dict[str, Any]) -> "RunningOrder":
        seen, layers = cls(target, inputs), {layer.path for layer in engine.sites.layers}
        with ExitStack() as stack:
            for path, module in engine.model.named_modules():
                enter, leave = partial(seen._enter, path, path in layers), partial(seen._leave, path, path in layers)
                stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            seen.output = seen.again(engine)
        seen._before.clear()
        return seen

    def again(self, engine: "Engine", **told: Any) -> tuple[Tensor, ...]:
        """The tensors that the bare model gives for the same inputs, with something ``told`` about the call."""
        with ExitStack() as stack:
            stack.enter_context(still(engine.model))
            stack.enter_context(torch.no_grad())
            stack.enter_context(AdapterSetup(None))
            stack.enter_context(engine.under(engine.enter()))
            stack.enter_context(engine.calling(engine.call._replace(**told)))
            return tuple(_tensors(self.target(**self.inputs)))

    def _enter(self, path: str, is_layer: bool, module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        if is_layer:
            self.calls[path] += 1
            if not self.gave and self.read is None:
                self.read = first_read(args, kwargs)
                found = [before for before, output in self._before if output is self.read]
                self.source = found[-1] if found else None
        self.begun.setdefault(path, len(self.calls))

    def _leave(self, path: str, is_layer: bool, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if is_layer:
            self.gave.setdefault(path, output)
        elif not self.calls:
            self._before.append((path, output))


def first_read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a module reads first."""
    return first_tensor(args or tuple(value for value in kwargs.values() if isinstance(value, Tensor))[:1])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
