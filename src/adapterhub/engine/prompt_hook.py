"""The hooks that put prompts among the tokens that a model reads, and cut what it gives to the text again."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterhub.engine.extra import extra_of
from adapterhub.engine.hooks import EmbeddingHook, NotingHook, rows_first
from adapterhub.engine.prompt import Prompts
from adapterhub.engine.reader import FIRST, Reader, cut_output, is_cached, pools_first
from adapterhub.errors import CompositionError
from adapterhub.sites import Embeddings, decoder_after

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine


class PromptHook(NotingHook):
    """Puts the prompts of one place among the tokens that a module reads, and cuts what it gives to the text again.

    Where a decoder reads what it gives, that sees the prompts too, and the model's output is cut in the end.
    """

    def __init__(self, engine: "Engine", name: str, site: Embeddings) -> None:
        super().__init__(engine)
        self.name = name
        self.reader = Reader.of(engine.model, site)
        module = self.reader.module
        decoder = None if self.reader.decoder else decoder_after(engine.model, module)
        self.cuts = decoder is None
        self.first = not self.reader.decoder and pools_first(engine.model)
        if decoder is not None:
            self._arguments = tuple(inspect.signature(decoder.forward).parameters)
            self._handles.append(decoder.register_forward_pre_hook(self.grow_cross, with_kwargs=True))
        if module is not engine.model or not hasattr(module, "heads"):  # which are no part of what reads tokens
            self._handles.append(module.register_forward_pre_hook(self.grow, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self.cut))
        if self.reader.table is not None:
            self._handles.append(self.reader.table.register_forward_pre_hook(self.tell, with_kwargs=True))
            self._handles.append(self.reader.table.register_forward_hook(self.by_row))

    def run(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """``forward`` where it is not the call of a module; its output has the state of the first position of all."""
        module = self.reader.module
        if self._handles:
            return forward(inputs)
        _, grown = self.grow(module, (), inputs) or ((), inputs)
        output = forward(grown)
        hidden = output.get("last_hidden_state")  # (a call under a prompt is answered with names)
        if self.name in self.engine.layouts and hidden is not None:
            output[FIRST] = hidden[:, 0]
        return self.cut(module, (), output)

    def grow(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the module."""
        self._noted.call = self._noted.positions = None
        plan, call = self.engine.plan(), self.engine.call
        given = dict(zip(self.reader.arguments, args, strict=False)) | kwargs
        text: Tensor | None = given.get("input_ids")
        text = given.get("inputs_embeds") if text is None else text
        program = None if plan is None else plan.prompts.get(self.name)
        if plan is None or text is None or (prompts := extra_of(Prompts, program, text, call)) is None:
            return None
        apart = self.name in plan.prompts_apart
        cached, tokens = is_cached(given.get("past_key_values")), text.shape[1]
        layout = self.reader.layout(prompts, given, tokens, cached)
        self._noted.call = call
        length = prompts.shape[1]
        if cached:
            self.engine.call = call._replace(offset=call.offset - length)
            return (), self._told(self.reader.go_on(layout, given, apart, tokens))
        words = layout.words(given.get("attention_mask"))
        prompt = None if call.prompt is None else call.prompt + length
        self.engine.call = call._replace(offset=-length, prompt=prompt, mask=words, decoder_mask=words)
        self.engine.layouts = {**self.engine.layouts, self.name: layout}
        return (), self._told(self.reader.grow(layout, given, apart))

    def _told(self, grown: dict[str, Any]) -> dict[str, Any]:
        """The arguments without positions that are for the table."""
        if self.reader.table is not None:
            self._noted.positions = grown.pop("position_ids", None)
        return grown

    def tell(self, table: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the table of positions, where these are told to it alone."""
        positions = getattr(self._noted, "positions", None)
        return None if positions is None else ((None,), {"position_ids": positions})

    def by_row(self, table: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Hook of that table: what it gives, as the positions of every row were told, ``[batch, positions, width]``."""
        positions: Tensor | None = getattr(self._noted, "positions", None)
        self._noted.positions = None
        return output if positions is None else output.view(*positions.shape, -1)

    def cut(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Hook of the module."""
        if self._noted.call is None:
            return output
        # A layer inside may have repeated the batch.
        before, self._noted.call = self._noted.call, None
        self.engine.call = before._replace(channels=self.engine.call.channels)
        layout = self.engine.layouts.get(self.name)
        if not self.cuts or layout is None:
            return output
        self.engine.layouts = {name: other for name, other in self.engine.layouts.items() if name != self.name}
        return cut_output(layout, output, self.first)

    def grow_cross(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the decoder: the mask of what the encoder gave."""
        plan = self.engine.plan()
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        states, mask = given.get("encoder_hidden_states"), given.get("encoder_attention_mask")
        program = None if plan is None else plan.prompts.get(self.name)
        if program is None or states is None:
            return None
        layout = self.engine.layouts.get(self.name)
        if layout is None:  # the encoder ran in another call
            prompts = extra_of(Prompts, program, states, self.engine.call)
            tokens = 0 if prompts is None else states.shape[1] - prompts.shape[1]
            if prompts is None or (mask is not None and mask.shape[1] != tokens):
                return None
            layout = self.reader.layout(prompts, {"attention_mask": mask}, tokens, False)
        rows = layout.order.shape[0]  # of the batch, which a layer may have repeated since
        grown = layout.mask(None if mask is None else mask[:rows])
        times = states.shape[0] // rows
        return (), given | {"encoder_attention_mask": None if grown is None else grown.repeat(times, 1)}


class InsertHook(EmbeddingHook):
    """Inserts prompts of one place that are not like tokens: before the first layer, and before other adapters."""

    def __init__(self, engine: "Engine", name: str, site: Embeddings) -> None:
        super().__init__(engine, site, prepend=True)
        self.name = name

    def changed(self, hidden: Tensor) -> Tensor:
        layout = None if self.engine.plan() is None else self.engine.layouts.get(self.name)
        if layout is None:
            return hidden
        rows = rows_first(self.engine, hidden, hidden)
        if rows.shape[1] != layout.order.shape[1]:
            raise CompositionError(
                "the first layer of this model reads more than its tokens, so that no prompt can be put among what it "
                "reads: use one with insert_at='word_embeddings'"
            )
        return rows_first(self.engine, layout.inserted(rows), hidden)
