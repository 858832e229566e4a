"""The hook that puts prompts among the tokens that a model reads, and cuts what it gives to the text again."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterhub.engine.extra import extra_of
from adapterhub.engine.hooks import NotingHook
from adapterhub.engine.prompt import Prompts
from adapterhub.engine.reader import FIRST, Reader, cut_output, decoder_after, is_cached, pools_first
from adapterhub.sites import Embeddings

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine


class PromptHook(NotingHook):
    """Puts the prompts of a plan among the tokens that a module reads, and cuts what it gives to the text again.

    Where a decoder reads what it gives, that sees the prompts too, and the model's output is cut in the end.
    """

    def __init__(self, engine: "Engine", site: Embeddings) -> None:
        super().__init__(engine)
        self.reader = Reader.of(engine.model, site)
        module = self.reader.module
        decoder = decoder_after(engine.model, module)
        self.cuts = decoder is None
        self.first = not self.reader.decoder and pools_first(engine.model)
        if decoder is not None:
            self._arguments = tuple(inspect.signature(decoder.forward).parameters)
            self._handles.append(decoder.register_forward_pre_hook(self.grow_cross, with_kwargs=True))
        if module is not engine.model or not hasattr(module, "heads"):  # which are no part of what reads tokens
            self._handles.append(module.register_forward_pre_hook(self.grow, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self.cut))

    def run(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """``forward`` where it is not the call of a module; its output has the state of the first position of all."""
        module = self.reader.module
        if self._handles:
            return forward(inputs)
        _, grown = self.grow(module, (), inputs) or ((), inputs)
        output = forward(grown)
        hidden = output.get("last_hidden_state")  # (a call under a prompt is answered with names)
        if self.engine.layout is not None and hidden is not None:
            output[FIRST] = hidden[:, 0]
        return self.cut(module, (), output)

    def grow(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the module."""
        self._noted.call = None
        plan, call = self.engine.plan(), self.engine.call
        given = dict(zip(self.reader.arguments, args, strict=False)) | kwargs
        text: Tensor | None = given.get("input_ids")
        text = given.get("inputs_embeds") if text is None else text
        if plan is None or text is None or (prompts := extra_of(Prompts, plan.prompts, text, call)) is None:
            return None
        cached, tokens = is_cached(given.get("past_key_values")), text.shape[1]
        layout = self.reader.layout(prompts, given, tokens, cached)
        self._noted.call = call
        length = prompts.shape[1]
        if cached:
            self.engine.call = call._replace(offset=call.offset - length)
            return (), self.reader.go_on(layout, given, plan.prompts_apart, tokens)
        words = layout.words(given.get("attention_mask"))
        prompt = None if call.prompt is None else call.prompt + length
        self.engine.call = call._replace(offset=-length, prompt=prompt, mask=words, decoder_mask=words)
        self.engine.layout = layout
        return (), self.reader.grow(layout, given, plan.prompts_apart)

    def cut(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Hook of the module."""
        if self._noted.call is None:
            return output
        self.engine.call, self._noted.call = self._noted.call, None
        layout = self.engine.layout
        if not self.cuts or layout is None:
            return output
        self.engine.layout = None
        return cut_output(layout, output, self.first)

    def grow_cross(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the decoder: the mask of what the encoder gave."""
        plan = self.engine.plan()
        given = dict(zip(self._arguments, args, strict=False)) | kwargs
        states, mask = given.get("encoder_hidden_states"), given.get("encoder_attention_mask")
        if plan is None or plan.prompts is None or states is None:
            return None
        layout = self.engine.layout
        if layout is None:  # the encoder ran in another call
            prompts = extra_of(Prompts, plan.prompts, states, self.engine.call)
            tokens = 0 if prompts is None else states.shape[1] - prompts.shape[1]
            if prompts is None or (mask is not None and mask.shape[1] != tokens):
                return None
            layout = self.reader.layout(prompts, {"attention_mask": mask}, tokens, False)
        rows = layout.order.shape[0]  # of the batch, which a layer may have repeated since
        grown = layout.mask(None if mask is None else mask[:rows])
        times = states.shape[0] // rows
        return (), given | {"encoder_attention_mask": None if grown is None else grown.repeat(times, 1)}
