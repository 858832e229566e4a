"""The hooks that let an adapter act inside an unchanged base model.

A hook is a method of an object that reaches its model's engine by attribute, not a closure: copying or pickling the
model copies the hooks with it, and they then belong to the copy.
"""

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub.engine.calls import batch_rows
from adapterhub.engine.extra import extra_of
from adapterhub.engine.position_bias import RelativeBias, tokens_before
from adapterhub.engine.positions import positions_of
from adapterhub.engine.prefix import Prefix, extended
from adapterhub.engine.program import Program, Read
from adapterhub.engine.repeat import repeated, repeated_inputs
from adapterhub.engine.side import text_of
from adapterhub.sites import Attention, Embeddings, Layer, Norm, attention, experts, handled

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine
    from adapterhub.engine.plan import WeightPrograms


def run(engine: "Engine", program: Program, state: Tensor, read: Read) -> Tensor:
    """Run a program on a state of the base model, whose rows it is to find first."""
    if engine.sites.batch_first:
        return program(state, read, engine.call)
    turned = tuple(rows_first(engine, one, state) for one in read)
    return rows_first(engine, program(rows_first(engine, state, state), turned, engine.call), state)


def rows_first(engine: "Engine", tensor: Tensor, state: Tensor) -> Tensor:
    """``tensor`` with the rows of the batch first, from the order that the base model has in ``state``; or back."""
    return tensor if engine.sites.batch_first or state.dim() < 3 else tensor.transpose(0, 1)


class Hook:
    """What stands at one site, as long as it is needed; ``_handles`` are those of its hooks."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._handles: list[RemovableHandle] = []

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class NotingHook(Hook):
    """One that keeps values from one of its hooks to the next, of the pass that a thread is in."""

    def __init__(self, engine: "Engine") -> None:
        super().__init__(engine)
        self._noted = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_noted"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._noted = threading.local()


class WeightHook(Hook):
    """Runs what a plan has for a module with a weight: on its input, and on its output."""

    def __init__(self, engine: "Engine", path: str) -> None:
        super().__init__(engine)
        self.path = path
        module = engine.model.get_submodule(path)
        self._handles += (
            module.register_forward_pre_hook(self.adapt_input),
            module.register_forward_hook(self.adapt_output, prepend=True),  # a sublayer's output is what comes of it
        )

    def adapt_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Pre-hook of the module."""
        programs = self._programs()
        if programs is None or programs.on_input is None:
            return None
        inputs, *rest = args
        return run(self.engine, programs.on_input, inputs, ()), *rest

    def adapt_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Hook of the module."""
        programs = self._programs()
        for weight, program in () if programs is None else programs.on_output:
            output = weight.replace(output, run(self.engine, program, weight.select(output), args[:1]))
        return output

    def _programs(self) -> "WeightPrograms | None":
        plan = self.engine.plan()
        return None if plan is None else plan.weights.get(self.path)


class NormHook(Hook):
    """Puts the adapter's own copy of a layer norm in the place of the base model's."""

    def __init__(self, engine: "Engine", site: Norm) -> None:
        super().__init__(engine)
        self.site = site
        self._handles.append(engine.model.get_submodule(site.path).register_forward_hook(self.replace, prepend=True))

    def replace(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Hook of the norm: the same input through the adapter's copy."""
        plan = self.engine.plan()
        own = plan.norms.get(self.site.path) if plan is not None else None
        return output if own is None else run(self.engine, own, output, args[:1])


class LayerHook(Hook):
    """Runs what a plan has for the residual stream after a layer."""

    def __init__(self, engine: "Engine", layer: Layer) -> None:
        super().__init__(engine)
        self.layer = layer
        self._handles.append(engine.model.get_submodule(layer.path).register_forward_hook(self.adapt, prepend=True))

    def adapt(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Hook of the layer."""
        plan = self.engine.plan()
        program = None if plan is None else plan.layers.get(self.layer.path)
        if program is None:
            return output
        hidden = output if isinstance(output, Tensor) else output[0]
        rows = rows_first(self.engine, hidden, hidden)
        positions = rows_first(self.engine, positions_of(rows, self.engine.call, self.layer.tower), hidden)
        hidden = run(self.engine, program, hidden, (positions,))
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])


class SideHook(Hook):
    """Runs what a plan has beside a layer, on what the layer read and gave."""

    def __init__(self, engine: "Engine", layer: Layer) -> None:
        super().__init__(engine)
        self.layer = layer
        module = engine.model.get_submodule(layer.path)
        self._handles.append(module.register_forward_hook(self.adapt, with_kwargs=True))

    def adapt(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Hook of the layer."""
        plan = self.engine.plan()
        program = None if plan is None else plan.sides.get(self.layer.path)
        if program is None:
            return output
        read = args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))
        hidden = output if isinstance(output, Tensor) else output[0]
        text = text_of(rows_first(self.engine, hidden, hidden), self.engine.call)
        hidden = run(self.engine, program, hidden, (read, rows_first(self.engine, text, hidden)))
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])


class PrefixHook(NotingHook):
    """Puts the prefixes of a plan before the keys and values of one attention."""

    def __init__(self, engine: "Engine", sublayer: str, site: Attention) -> None:
        super().__init__(engine)
        self.sublayer = sublayer
        self.module = engine.model.get_submodule(site.path)
        self.bias_of = None if site.bias_at is None else engine.model.get_submodule(site.bias_at)
        self._handles.append(self.module.register_forward_pre_hook(self.note, with_kwargs=True))
        attention.install(self.module, self.extend)

    def detach(self) -> None:
        """Remove the hook, and the handler."""
        super().detach()
        handled.remove(self.module)

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the module: what the attention reads."""
        self._noted.hidden = args[0] if args else kwargs.get("hidden_states")
        self._noted.relative = (
            None if self.bias_of is None else RelativeBias(self.bias_of, tokens_before(module, kwargs))
        )

    def extend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
    ) -> attention.Given:
        """Handler of the attention function."""
        plan = self.engine.plan()
        program = None if plan is None else plan.prefixes.get(self.sublayer)
        prefix = None if program is None else extra_of(Prefix, program, self._noted.hidden, self.engine.call)
        relative = self._noted.relative
        self._noted.hidden = self._noted.relative = None
        if prefix is None:
            return key, value, mask, kwargs
        return extended(prefix, relative, module, query, key, value, mask, kwargs)


class ExpertsHook(NotingHook):
    """Runs what a plan has for the weights of experts, which see tokens of all rows and positions one after another."""

    def __init__(self, engine: "Engine", path: str) -> None:
        super().__init__(engine)
        self.path = path
        self.module = engine.model.get_submodule(path)
        around = engine.model.get_submodule(path.rpartition(".")[0])
        self._handles.append(around.register_forward_pre_hook(self.note))
        experts.install(self.module, self.change)

    def detach(self) -> None:
        """Remove the hook, and the handler."""
        super().detach()
        handled.remove(self.module)

    def note(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook of the module around the experts: how many rows and positions there are."""
        hidden = args[0] if args else None
        self._noted.shape = hidden.shape[:2] if isinstance(hidden, Tensor) and hidden.dim() == 3 else None

    def change(self) -> "experts.Change | None":
        """Handler of the experts function: what changes the outputs of its weights in this call, if anything does."""
        plan = self.engine.plan()
        programs = None if plan is None else plan.experts.get(self.path)
        shape = getattr(self._noted, "shape", None)
        self._noted.shape = None
        return None if programs is None else partial(self.adapt, programs, shape)

    def adapt(
        self,
        programs: Mapping[str, Program],
        shape: torch.Size | None,
        name: str,
        output: Tensor,
        inputs: Tensor,
        chosen: Tensor,
    ) -> Tensor:
        """What the weight ``name`` gave, adapted."""
        program = programs.get(name)
        if program is None:
            return output
        if shape is None or output.shape[0] % shape.numel():
            return run(self.engine, program, output, (inputs, chosen))
        state, *read = (one.unflatten(0, (*shape, -1)) for one in (output, inputs, chosen))
        return run(self.engine, program, state, tuple(read)).flatten(0, 2)


class EmbeddingHook(Hook):
    """Runs what a plan has for embedded tokens, before the first layer."""

    def __init__(self, engine: "Engine", site: Embeddings, prepend: bool = False) -> None:
        super().__init__(engine)
        module = engine.model.get_submodule(site.path)
        self._handles.append(
            module.register_forward_pre_hook(self.adapt_input, with_kwargs=True, prepend=prepend)
            if site.reads
            else module.register_forward_hook(self.adapt_output, prepend=prepend)
        )

    def adapt_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the first layer."""
        if args:
            return (self.changed(args[0]), *args[1:]), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: self.changed(kwargs[name])}

    def adapt_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Hook of the module around the embeddings."""
        return self.changed(output)

    def changed(self, hidden: Tensor) -> Tensor:
        """What the first layer is to read in the place of ``hidden`` ``[batch, seq, width]``."""
        plan = self.engine.plan()
        return hidden if plan is None or plan.embeddings is None else run(self.engine, plan.embeddings, hidden, ())


class InverseHook(Hook):
    """Undoes what was done to the embeddings, before output embeddings that are tied to them."""

    def __init__(self, engine: "Engine", module: nn.Module) -> None:
        super().__init__(engine)
        self._handles.append(module.register_forward_pre_hook(self.invert))

    def invert(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pre-hook of the output embeddings."""
        return self.engine.invert(args[0]), *args[1:]


class BatchHook(NotingHook):
    """Begins a batch under a ``Parallel``, and ends it, where the base model of a head model is called by itself."""

    def __init__(self, engine: "Engine") -> None:
        super().__init__(engine)
        base: nn.Module = engine.model.base_model
        self._handles += (
            base.register_forward_pre_hook(self.begin, with_kwargs=True, prepend=True),
            base.register_forward_hook(self.end, always_call=True),
        )

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the base model: repeat what it is given, if no layer does it."""
        self.engine.rows_seen = None
        self._noted.channels = self.engine.call.channels
        plan = self.engine.plan()
        if plan is None or plan.channels == 1 or plan.first_repeated is not None or self.engine.rows_repeated:
            return None
        self.engine.repeat_rows(plan.channels)
        rows = batch_rows(module, args, kwargs)
        return repeated_inputs(args, rows, plan.channels), repeated_inputs(kwargs, rows, plan.channels)

    def end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Hook of the base model, after an error too: what is called next has rows of its own."""
        self.engine.repeat_rows(getattr(self._noted, "channels", 1))


class RepeatHook(Hook):
    """Gives a layer every row of the batch once for each channel of a ``Parallel``.

    On a whole tower (a decoder, say) it does so if one that ran before has repeated them already.
    """

    def __init__(self, engine: "Engine", path: str, layer: int | None) -> None:
        super().__init__(engine)
        self.layer = layer
        module = engine.model.get_submodule(path)
        self._handles.append(module.register_forward_pre_hook(self.repeat, with_kwargs=True, prepend=True))

    def repeat(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the module: what it is given for the rows of the batch, for each channel."""
        plan = self.engine.plan()
        if plan is None or plan.first_repeated is None or self.engine.rows_repeated:
            return None
        if self.layer is not None and not plan.repeats(self.layer, module.training):
            return None
        rows = self.engine.rows_seen
        if rows is None and self.layer is not None:
            hidden = args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))
            rows = self.engine.rows_seen = hidden.shape[0]
        if rows is None:
            return None
        channels = plan.channels
        self.engine.repeat_rows(channels)
        return repeated(args, rows, channels), repeated(kwargs, rows, channels)
