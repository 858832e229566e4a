"""The one model of a server: adapters are put into it, and rows run through it."""

import itertools
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from adapterhub.auto import AutoAdapterModel
from adapterhub.composition import Rows
from adapterhub.engine import AdapterSetup
from adapterhub.errors import BackboneError, HeadError
from adapterhub.fingerprint import Fingerprint
from adapterhub.heads import Head
from adapterhub.saving import native
from adapterhub.serving.errors import BrokenAdapterError
from adapterhub.serving.rows import Output, Row
from adapterhub.training.backbones import loading, resolve_backbone

# The head for who asks for vectors and has no head for them: the mean over the tokens, of length 1.
MEAN = "mean-of-tokens"
# The head that the checkpoint of the model brought.
OWN = "default"


@dataclass(frozen=True)
class Held:
    """An adapter in the model.

    Attributes:
        slot: what it is called there.
        head: the head that came with it, or None.
        nbytes: of its tensors, the head's with them.
    """

    slot: str
    head: Head | None
    nbytes: int


class ServedModel:
    """A base model, its tokenizer, and any number of adapters of which every row of a batch has its own.

    Args:
        model: one with adapters and flexible heads.
        tokenizer: that of the base model.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self._slots, self._lock = itertools.count(), threading.Lock()
        model.add_custom_head("sentence_embedding", MEAN, set_active=False)

    @classmethod
    def open(cls, name: str, device: str = "cpu") -> "ServedModel":
        """The model of a name or a folder.

        Raises:
            BackboneError: if there is none, or its tokenizer does not say where in a text a token stands.
        """
        with loading(name):
            folder = resolve_backbone(name)
            model: Any = AutoAdapterModel.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        if not tokenizer.is_fast:
            raise BackboneError(f"the tokenizer of {name!r} is a slow one, which cannot tell where its tokens stand")
        return cls(model.to(device), tokenizer)

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model reads, at most."""
        config = self.model.config
        own = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        # Positions of RoBERTa and its like begin behind that of the padding.
        known = [size - (config.pad_token_id or 0) - 1 if _after_padding(config) else size for size in own if size]
        return min([*known, self.tokenizer.model_max_length])

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells this base model from others."""
        return native.fingerprint(self.model)

    def head(self, name: str) -> Head | None:
        """The head of that name in the model."""
        found: Head | None = self.model.heads.get(name)
        return found

    def load(self, folder: Path) -> Held:
        """Put the adapter of a folder, and its head, into the model, beside what is there.

        Raises:
            CheckpointError: if it cannot be read, or was made for another base model.
            AdapterHubError: as ``load_adapter`` of a model.
        """
        with self._lock:  # a module tree is not to be walked while it changes
            slot = f"slot-{next(self._slots)}"
            self.model.load_adapter(folder, load_as=slot)
            modules = [part[slot].eval().requires_grad_(False) for part in self._holders() if slot in part]
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        return Held(slot, self.head(slot), sum(tensor.nbytes for tensor in tensors))

    def unload(self, slot: str) -> None:
        """Take an adapter, and its head, out of the model; rows under way keep what they run with."""
        with self._lock, suppress(HeadError):
            self.model.delete_adapter(slot)
            self.model.delete_head(slot)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> list[Output]:
        """What its head gives for each row, in one forward pass: tensors without the batch, padding at their ends."""
        setups = [row.setup for row in rows]
        setup = Rows(setups) if any(one is not None for one in setups) else None
        with AdapterSetup(setup, head_setup=Rows([row.head for row in rows])):
            answered = self.model(**self._padded(rows))
        outputs: list[Output] = [{} for _ in rows]
        for of_head, own in zip(answered, answered.rows, strict=True):
            for name, tensor in _by_row(of_head, len(own)):
                for number, one in zip(own.tolist(), tensor.float().cpu(), strict=True):
                    outputs[number][name] = one
        return outputs

    def _holders(self) -> tuple[Any, ...]:
        return self.model.adapters, self.model.heads

    def _padded(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Rows as one batch: ``[rows, longest]`` each."""
        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id or 0
        inputs = {
            "input_ids": [[*row.ids, *[pad] * (longest - len(row))] for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in rows],
        }
        if all(row.types is not None for row in rows):
            inputs["token_type_ids"] = [[*(row.types or ()), *[0] * (longest - len(row))] for row in rows]
        return {name: torch.tensor(value, device=self.model.device) for name, value in inputs.items()}


def _after_padding(config: Any) -> bool:
    return "roberta" in config.model_type or config.model_type in ("camembert", "longformer", "mpnet", "esm")


def _by_row(output: Any, rows: int) -> list[tuple[str, Tensor]]:
    return [(name, one) for name, one in output.items() if isinstance(one, Tensor) and one.shape[:1] == (rows,)]


def check_finite(output: Output) -> None:
    """Pass what is made of numbers.

    Raises:
        BrokenAdapterError: for anything else.
    """
    if not all(torch.isfinite(tensor).all() for tensor in output.values()):
        raise BrokenAdapterError("the adapter gives values that are no numbers: it was saved broken, train it again")
