"""The tokens of a transformers model, as methods see them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from adapterhub.errors import ConfigError
from adapterhub.methods import Vocabulary


class ModelVocabulary(Vocabulary):
    """Those of the module ``reader`` in ``model``."""

    def __init__(self, model: PreTrainedModel, reader: nn.Module) -> None:
        self._model, self._reader = model, reader

    @property
    def _table(self) -> Any:
        return cast(Any, self._reader).get_input_embeddings()

    @property
    def size(self) -> int:
        return int(self._table.num_embeddings)

    @torch.no_grad()
    def vectors(self, ids: Sequence[int]) -> Tensor:
        # By ``forward``: the hooks of an active adapter are none of the base model's own.
        found: Tensor = self._table.forward(torch.tensor(ids, device=self._table.weight.device))
        return found

    def tokens(self, text: str, tokenizer: str | None) -> list[int]:
        name = tokenizer or self._model.name_or_path
        try:
            if not name:
                raise OSError("the model has no name_or_path")
            found: Any = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"prompt_init_text needs a tokenizer, and {name or 'this model'!r} has none that could be loaded "
                f"({str(error).splitlines()[0]}). Name one by tokenizer_name_or_path, or pass the tokens of the text "
                "as prompt_init_ids"
            ) from error
        return list(found(text, add_special_tokens=False)["input_ids"])
