"""The module that takes tokens, or embedded ones in their place: its arguments grow by prompts, its output is cut."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from adapterhub.engine.prompt import Layout, Prompts
from adapterhub.errors import CompositionError
from adapterhub.sites import Embeddings, is_decoder

FIRST = "first_hidden_state"  # ``[batch, hidden]``: where heads find what a prompt makes of the first position
# Of a whole model, these are cut: those of a decoder know of no prompt.
_OF_ENCODER = ("encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions")
_TEXT = ("input_ids", "inputs_embeds", "attention_mask", "position_ids")
_TOLD = {"past_key_values_length", "position_ids"}  # arguments of a table that adds to what it counts, or is told
_OF_ANOTHER = ("encoder_", "cross_", "past_", "head_")  # how the names of arguments begin that are not of the text


@dataclass(frozen=True)
class Reader:
    """What is to be known of the module that takes tokens, or embedded ones in their place.

    ``decoder`` says whether it sees, at each token, those before it alone, and ``counts`` whether it counts absolute
    positions and cannot be told any. Of its table of positions, if it has one, ``room`` is how many there are, and
    ``padding`` the number from which it counts on, if it skips padding; it is ``table`` where positions can be told to
    it alone.
    """

    module: PreTrainedModel
    arguments: tuple[str, ...]
    decoder: bool
    counts: bool
    room: int | None = None
    padding: int | None = None
    table: nn.Embedding | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, site: Embeddings) -> Self:
        """That of a model, which ``site`` names."""
        module = cast(PreTrainedModel, model.get_submodule(site.reader or ""))
        arguments = tuple(inspect.signature(module.forward).parameters)
        last = (site.reader or "").rpartition(".")[2]
        decoder = last == "decoder" or (not module.config.is_encoder_decoder and is_decoder(module.config))
        counts = site.positions is not None and "position_ids" not in arguments
        table = None if site.positions is None else model.get_submodule(site.positions)
        if not isinstance(table, nn.Embedding):
            return cls(module, arguments, decoder, counts)
        told = table if counts and inspect.signature(table.forward).parameters.keys() >= _TOLD else None
        first: Any = getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1)
        room = table.num_embeddings - first
        return cls(module, arguments, decoder, counts and told is None, room, table.padding_idx, told)

    def layout(self, prompts: Prompts, given: Mapping[str, Any], tokens: int, cached: bool) -> Layout:
        """Where all stands that was seen up to this call, whose ``tokens`` are new; more may be in a cache.

        Raises:
            CompositionError: for an attention mask that is not one of padding.
        """
        mask = given.get("attention_mask")
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise CompositionError(
                "a prompt is active, and attention_mask says which token sees which: pass one of [batch, seq], 0 for "
                "padding, which can grow by the prompt"
            )
        if mask is not None:
            tokens = mask.shape[1]
        elif cached and prompts.present is not None:
            tokens += self._seen(prompts, given)
        counted = prompts.which() if self.room is None else prompts.which() & prompts.as_tokens
        return Layout.of(prompts, counted, tokens, mask, self.decoder, self.decoder and not self.counts)

    def grow(self, layout: Layout, given: dict[str, Any], apart: bool) -> dict[str, Any]:
        """The arguments with the prompts among the tokens; ``apart`` says whether some are not like tokens.

        Raises:
            CompositionError: if there are more than the model has positions for.
        """
        prompts, mask = layout.prompts, given.get("attention_mask")
        rest = {name: value for name, value in given.items() if name not in _TEXT}
        embedded = given.get("inputs_embeds")
        if embedded is None:
            embedded = cast(Any, self.module.get_input_embeddings())(given["input_ids"])
        rows, tokens = embedded.shape[:2]
        moved = self.counts or not apart
        if self.room is not None and moved and tokens + prompts.shape[1] > self.room:
            raise CompositionError(
                f"a text of {tokens} tokens and a prompt of {prompts.shape[1]} are more than the {self.room} positions "
                f"of {type(self.module).__name__}: cut the text"
            )
        for name, value in rest.items():
            if not name.startswith(_OF_ANOTHER) and _is_by_token(value, rows, tokens):
                rest[name] = layout.grown(value.new_zeros(1, prompts.shape[1], *value.shape[2:]), value)
        like_tokens = (prompts.as_tokens & prompts.which()).unsqueeze(-1)
        rest["inputs_embeds"] = layout.grown(prompts.vectors * like_tokens, embedded)
        own = self._own_positions(layout, given, apart, tokens, 0)
        grown = layout.mask(mask)
        if grown is None and own is not None and apart and self.room is not None:
            # Where there is no mask, positions that stand still are taken for texts packed one after another.
            grown = torch.ones_like(layout.order)
        return rest | _known(
            attention_mask=grown,
            position_ids=None if own is None else _by_channel(own, lambda one: layout.positions(one, mask)),
        )

    def go_on(self, layout: Layout, given: dict[str, Any], apart: bool, tokens: int) -> dict[str, Any]:
        """The arguments for ``tokens`` after those in a cache, where the prompts are already.

        Raises:
            CompositionError: if rows have prompts of unlike lengths, and the model counts positions by itself.
        """
        if layout.prompts.present is not None and self.counts:
            raise CompositionError(
                f"{type(self.module).__name__} counts the positions of tokens by itself, so that rows with prompts of "
                "unlike lengths cannot go on from a cache: pass use_cache=False"
            )
        counts = self._is_told and (layout.prompts.present is not None or apart)
        seen = self._seen(layout.prompts, given) if counts and given.get("position_ids") is None else 0
        own = self._own_positions(layout, given, apart, tokens, seen)
        counted = layout.counted.sum(dim=1, keepdim=True)
        return given | _known(
            attention_mask=layout.mask(given.get("attention_mask")),
            position_ids=None if own is None else own + counted.to(own.device),
        )

    @property
    def _is_told(self) -> bool:
        """Whether it can be told positions, or its table can."""
        return self.table is not None or "position_ids" in self.arguments

    def _own_positions(
        self, layout: Layout, given: Mapping[str, Any], apart: bool, tokens: int, seen: int
    ) -> Tensor | None:
        """The positions that ``tokens`` of the text have by itself; None where the module counts all right."""
        own: Tensor | None = given.get("position_ids")
        if own is not None or not self._is_told:
            return own
        ids = given.get("input_ids")
        if self.padding is not None and ids is not None and not seen:
            real = (ids != self.padding).long()
            return real.cumsum(dim=1) * real + self.padding
        if layout.prompts.present is None and not (apart and self.room is not None):
            return None
        first = seen if self.padding is None else seen + self.padding + 1
        return torch.arange(first, first + tokens, device=layout.order.device).unsqueeze(0)

    @staticmethod
    def _seen(prompts: Prompts, given: Mapping[str, Any]) -> int:
        """How many tokens of the text are in the cache."""
        return int(given["past_key_values"].get_seq_length()) - prompts.shape[1]


def pools_first(model: PreTrainedModel) -> bool:
    """Whether the class of ``model`` answers once for a whole text, by the state of its first position."""
    whole = type(model).__name__.endswith(("ForSequenceClassification", "ForMultipleChoice"))
    return whole and getattr(model.config, "classifier_pooling", "cls") == "cls"


def is_cached(cache: Any) -> bool:
    """Whether a cache holds tokens already."""
    length = 0 if cache is None else cache.get_seq_length()
    # That of a static cache is a tensor, once it is set up; what is compiled is what goes on from it.
    return True if isinstance(length, Tensor) and torch.compiler.is_compiling() else bool(length)


def cut_output(layout: Layout, output: Any, first: bool) -> Any:
    """What a module gave, for the tokens of the text alone; ``first`` keeps the state of the first position of all.

    That is what stands for a whole text in many a model: in the place of the first token's.
    """
    if isinstance(output, tuple):
        return tuple(_cut(layout, value, first and not index) for index, value in enumerate(output))
    for name, value in list(output.items()):
        output[name] = _cut(layout, value, first and name == "last_hidden_state")
    return output


def cut_encoder(layout: Layout, output: ModelOutput) -> None:
    """Cut what a whole encoder-decoder gave: its encoder's states, to those for the tokens of the text."""
    for name in _OF_ENCODER:
        if output.get(name) is not None:
            output[name] = _cut(layout, output[name], False)


def _cut(layout: Layout, value: Any, first: bool) -> Any:
    if type(value) is tuple:
        return tuple(_cut(layout, one, False) for one in value)
    if not isinstance(value, Tensor) or value.dim() not in (3, 4):
        return value
    if value.shape[value.dim() - 2] != layout.order.shape[1]:
        return value
    cut = layout.cut(value)
    return torch.cat((value[:, :1], cut[:, 1:]), dim=1) if first else cut


def _is_by_token(value: Any, rows: int, tokens: int) -> bool:
    """Whether an argument has a value for each token."""
    return isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] in (1, rows) and value.shape[1] == tokens


def _by_channel(positions: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Positions may be told for several channels, ``[channels, batch, tokens]``."""
    return change(positions) if positions.dim() == 2 else torch.stack([change(one) for one in positions])


def _known(**values: Tensor | None) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if value is not None}
