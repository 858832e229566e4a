"""The tokens that fit where a text is masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from adapterhub.errors import DataError
from adapterhub.inference.tasks import Inputs, Item, Parts, Reader, Task, register_task, rows_of, texts_of


@register_task("masked_lm", "ForMaskedLM")
@dataclass(frozen=True)
class MaskedLM(Task):
    """``fills``: for each masked place the ``top_k`` best tokens (``token``, ``token_str``, ``score``), best first."""

    top_k: int = 5

    columns = ("text",)

    def encode(self, given: Sequence[Any], reader: Reader) -> list[Item]:
        """A row for each text.

        Raises:
            DataError: for a text without the mask of the tokenizer in what the model reads of it.
        """
        mask = reader.tokenizer.mask_token_id
        if mask is None:
            raise DataError(f"{type(reader.tokenizer).__name__} has no token for what is masked")
        texts = [texts_of(one, ("text",))[0] for one in given]
        rows = rows_of(reader.encode(texts), reader.tokenizer.model_input_names)
        for text, row in zip(texts, rows, strict=True):
            if mask not in row["input_ids"]:
                raise DataError(
                    f"nothing is masked in the first {reader.max_length} tokens of {text[:60]!r}: write "
                    f"{reader.tokenizer.mask_token} where a token is to be filled in"
                )
        return [Item((row,)) for row in rows]

    def read(self, outputs: ModelOutput, inputs: Inputs, reader: Reader) -> Parts:
        """The best tokens for each masked place of a row, and their shares: two lists of lists."""
        found = []
        for ids, logits in zip(inputs["input_ids"], outputs["logits"], strict=True):
            shares = logits[ids == reader.tokenizer.mask_token_id].float().softmax(-1)
            best = torch.topk(shares, min(self.top_k, shares.shape[-1]))
            found.append((best.indices.tolist(), best.values.tolist()))
        return found

    def answer(self, item: Item, parts: Sequence[Any], reader: Reader) -> dict[str, Any]:
        """The best tokens with their scores."""
        ((tokens, scores),) = parts
        fills = [
            [
                {"token": token, "token_str": reader.tokenizer.decode([token]), "score": score}
                for token, score in zip(*place, strict=True)
            ]
            for place in zip(tokens, scores, strict=True)
        ]
        return {"fills": fills}
