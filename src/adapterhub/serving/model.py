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
from adapterhub.checkpoints.described import SETUP
from adapterhub.composition import Rows
from adapterhub.engine import AdapterSetup
from adapterhub.errors import BackboneError, HeadError
from adapterhub.fingerprint import Fingerprint
from adapterhub.heads import Head
from adapterhub.inference.batching import padded
from adapterhub.saving import native
from adapterhub.serving.errors import BadInputError
from adapterhub.serving.rows import Output, Row
from adapterhub.training.backbones import loading, resolve_backbone

_MEAN = "mean-of-tokens"
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
        model.add_custom_head("sentence_embedding", _MEAN, set_active=False)

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
    def fingerprint(self) -> Fingerprint:
        """What tells this base model from others."""
        return native.fingerprint(self.model)

    @property
    def mean(self) -> Head:
        """The head that makes vectors where there is none for them: the mean over the tokens, of length 1."""
        found: Head = self.model.heads[_MEAN]
        return found

    def head(self, name: str) -> Head | None:
        """The head of that name in the model."""
        found: Head | None = self.model.heads.get(name)
        return found

    def load(self, folder: Path) -> Held:
        """Put the adapter of a folder, and its head, into the model, beside what is there.

        Raises:
            CheckpointError: if it cannot be read, or was made for another base model.
            BadInputError: if it is a whole composition.
            AdapterHubError: as ``load_adapter`` of a model.
        """
        if (folder / SETUP).is_file():
            raise BadInputError(f"{folder} is a composition: ask for its parts by a stack")
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
        """What its head gives for each row, in one forward pass, and the ids of its tokens.

        Tensors are without the batch, and have the padding of the batch at their ends.
        """
        inputs = self.batch(rows)
        setups = [row.setup for row in rows]
        setup = Rows(setups) if any(one is not None for one in setups) else None
        with AdapterSetup(setup, head_setup=Rows([row.head for row in rows])):
            answered = self.model(**inputs)
        outputs: list[Output] = [{"input_ids": ids} for ids in inputs["input_ids"].cpu()]
        for of_head, own in zip(answered, answered.rows, strict=True):
            for name, tensor in _by_row(of_head, len(own)):
                for number, one in zip(own.tolist(), tensor.float().cpu(), strict=True):
                    outputs[number][name] = one
        return outputs

    def batch(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """What the model reads of rows: ``[rows, longest]`` each, on its device."""
        inputs = padded([row.tokens for row in rows], self.tokenizer, max(map(len, rows)))
        return {name: one.to(self.model.device) for name, one in inputs.items()}

    def _holders(self) -> tuple[Any, ...]:
        return self.model.adapters, self.model.heads


def _by_row(output: Any, rows: int) -> list[tuple[str, Tensor]]:
    return [(name, one) for name, one in output.items() if isinstance(one, Tensor) and one.shape[:1] == (rows,)]
