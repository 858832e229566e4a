"""The hook of a sublayer: what adapters make of its output, and where the channels of a ``Parallel`` may begin."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterhub.engine.hooks import NotingHook, run
from adapterhub.engine.program import Program
from adapterhub.engine.repeat import repeated
from adapterhub.sites import Sublayer

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine
    from adapterhub.engine.plan import Plan


class SublayerHook(NotingHook):
    """Runs the adapters of a plan after one sublayer: its residual stream is noted, its output replaced.

    Where the channels of a ``Parallel`` begin after it, the base model goes on with what it has, for the rows of the
    batch. The layer then gives what it makes of each channel: z + x, or the norm of it, where z is what the adapters
    make of the sublayer's output.
    """

    def __init__(self, engine: "Engine", site: Sublayer) -> None:
        super().__init__(engine)
        self.site = site
        module = engine.model.get_submodule
        self.layer_norm = None if site.norm is None else module(site.norm)
        self._replaces_norm = self._replaces_layer = False
        self._handles += (
            module(site.residual_at).register_forward_pre_hook(self.note_residual, prepend=True),
            module(site.output_at).register_forward_hook(self.adapt),
        )

    def attach_norm(self) -> None:
        """Register the hook on the norm after the sublayer too, for adapters that leave it out."""
        if self.layer_norm is not None and not self._replaces_norm:
            self._replaces_norm = True
            self._handles.append(self.layer_norm.register_forward_hook(self.replace_norm))

    def attach_layer(self) -> None:
        """Register the hook on the layer too, for channels that begin after its last sublayer."""
        if not self._replaces_layer:
            self._replaces_layer = True
            layer = self.engine.model.get_submodule(self.engine.sites.layers[self.site.layer].path)
            self._handles.append(layer.register_forward_hook(self.replace_layer, prepend=True))

    def note_residual(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook of the module that reads the residual stream first."""
        if self.engine.plan() is not None:  # a pass of the bare model may run inside another
            self._noted.residual = args[0]

    def adapt(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Hook of the last module of the sublayer: put the adapters' result in the place of its output."""
        plan = self.engine.plan()
        if plan is None:
            return output
        residual: Any = getattr(self._noted, "residual", None)  # None if another thread put the hook here meanwhile
        self._noted.residual = None  # a tensor kept here would outlive the pass
        program = plan.sublayers.get(self.site.name)
        if program is None:
            return output
        given = output if isinstance(output, Tensor) else output[0]
        hidden = given if given.shape == residual.shape else given.reshape(residual.shape)  # experts take tokens alone
        if plan.branching == self.site.name and self.engine.call.channels == 1:
            self._branch(plan, program, hidden, residual)
            return output
        hidden = run(self.engine, program, hidden, (residual,))
        if self.site.name in plan.replacing:
            if self.layer_norm is None:
                hidden = hidden - residual  # the base model adds it back
            else:
                self._noted.result = hidden
        hidden = hidden if hidden.shape == given.shape else hidden.reshape(given.shape)
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    def _branch(self, plan: "Plan", program: Program, hidden: Tensor, residual: Tensor) -> None:
        """Note what the layer is to give for every channel."""
        rows = self.engine.rows_seen = hidden.shape[0]
        self.engine.repeat_rows(plan.channels)
        hidden, residual = repeated((hidden, residual), rows, plan.channels)
        made = run(self.engine, program, hidden, (residual,)) + residual
        self._noted.layer = made if self.layer_norm is None else self.layer_norm.forward(made)

    def replace_layer(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Hook of the layer: hand on what was made of its last sublayer."""
        made = getattr(self._noted, "layer", None)
        if made is None:
            return output
        self._noted.layer = None
        return made if isinstance(output, Tensor) else (made, *output[1:])

    def replace_norm(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Hook of the norm after the sublayer: hand on the adapters' result as it is."""
        result = getattr(self._noted, "result", None)
        if result is None:
            return output
        self._noted.result = None
        return result
