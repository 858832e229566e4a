"""The tokens of a transformers model, as methods see them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from adapterhub.engine.setup import AdapterSetup
from adapterhub.errors import ConfigError
from adapterhub.methods import Vocabulary
from adapterhub.sites import embeds_alike


class ModelVocabulary(Vocabulary):
    """Those of the module ``reader`` in ``model``, which may read what an ``encoder`` gives too."""

    def __init__(self, model: PreTrainedModel, reader: nn.Module, encoder: nn.Module | None = None) -> None:
        self._model, self._reader, self._encoder = model, reader, encoder
        self._alike = False  # what is known of it

    def check(self) -> None:
        if self._alike or self._model.device.type == "meta":
            return
        name = type(self._reader).__name__
        try:
            with AdapterSetup(None):  # the bare model is to be looked at, whatever is active
                self._alike = embeds_alike(self._model, self._table, self._run)
        except Exception as error:  # any model's code may run here
            raise ConfigError(f"{name} could not be run on embedded tokens (inputs_embeds): {error}") from error
        if not self._alike:
            raise ConfigError(
                f"{name} does not give the same for tokens and for their embeddings (inputs_embeds), so that the "
                "vectors of a prompt cannot stand for tokens in this model"
            )

    def _run(self, inputs: dict[str, Any]) -> Any:
        """The reader's own forward, without heads that are beside it; of an encoder it gets one state."""
        if self._encoder is not None:
            table: nn.Embedding = cast(Any, self._encoder).get_input_embeddings()
            inputs = inputs | {"encoder_hidden_states": table.weight[:1].unsqueeze(0)}
        own = getattr(self._reader, "_run_base", None)
        return self._reader.forward(**inputs) if own is None else own(inputs)

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
