"""From texts to tokens: each input becomes a row, or several where it is long and a task reads all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from adapterhub.serving.errors import BadInputError
from adapterhub.serving.tasks import Task
from adapterhub.serving.texts import Input, Question

# Of a long text, each window shares this part of its tokens with the one before.
_OVERLAP = 4


@dataclass(frozen=True, eq=False)
class Encoded:
    """An input as tokens.

    Attributes:
        windows: of the text, one row each; one text alone, unless the task reads on where a row ends.
        truncated: whether something of it was left out.
    """

    windows: tuple[Encoding, ...]
    truncated: bool


class Encoder:
    """Makes tokens of texts.

    Args:
        tokenizer: a fast one.
        max_tokens: of a row, special tokens included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self._tokenizer, self._max = tokenizer, max_tokens
        self.has_types = "token_type_ids" in tokenizer.model_input_names
        self._mask: int | None = tokenizer.mask_token_id

    def encode(self, one: Input, task: Task) -> list[Encoded]:
        """An input for a task: two of its kind for the similarity of a pair, else one.

        Raises:
            BadInputError: for an input that such a task does not read.
        """
        if isinstance(one, Question) != (task is Task.question_answering):
            needs = '{"question": ..., "context": ...}' if task is Task.question_answering else "texts"
            raise BadInputError(f"an adapter for {task} reads {needs}")
        if isinstance(one, Question):
            return [self._windows(one.question, one.context)]
        if task is Task.embedding and one.pair is not None:
            return [self._whole(one.text), self._whole(one.pair)]
        if task is Task.tagging and one.pair is None:
            return [self._windows(one.text)]
        encoded = self._whole(one.text, one.pair)
        if task is Task.fill_mask and (self._mask is None or self._mask not in encoded.windows[0].ids):
            raise BadInputError(f"there is no {self._tokenizer.mask_token} in the text that could be filled")
        return [encoded]

    def _whole(self, *texts: str | None) -> Encoded:
        found = self._encodings(texts, truncation=True)
        return Encoded(tuple(found[:1]), len(found) > 1)

    def _windows(self, *texts: str) -> Encoded:
        """All of the last text, in windows that overlap."""
        longest = self._max // 2  # of a question
        first = len(self._encodings(texts[:1])[0]) if len(texts) > 1 else 0
        if first > longest:
            raise BadInputError(f"the question has {first:,} tokens, and may have {longest:,}")
        room = self._max - first - self._tokenizer.num_special_tokens_to_add(pair=len(texts) > 1)
        how = "only_second" if len(texts) > 1 else True
        return Encoded(tuple(self._encodings(texts, truncation=how, stride=max(room // _OVERLAP, 0))), False)

    def _encodings(self, texts: Sequence[str | None], truncation: Any = False, stride: int = 0) -> Sequence[Encoding]:
        given = [text for text in texts if text is not None]
        more: dict[str, Any] = {"max_length": self._max, "stride": stride} if truncation else {}
        found = self._tokenizer(*given, truncation=truncation, return_overflowing_tokens=bool(truncation), **more)
        encodings: Sequence[Encoding] = found.encodings
        return encodings
