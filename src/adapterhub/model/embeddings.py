"""Embeddings that can be switched: other vocabularies for one model, each with a tokenizer of its own."""

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adapterhub.checkpoints import EMBEDDINGS_MANIFEST, Part, read, write
from adapterhub.engine.named import NamedModules, check_name
from adapterhub.engine.vocabulary import TABLE, Vocabulary, exchange, with_entries
from adapterhub.errors import CheckpointNotFoundError, CorruptCheckpointError, EmbeddingsError, TensorMismatchError
from adapterhub.model.vocabularies import (
    as_module,
    blank,
    copy_entries,
    like,
    note_vocabulary_size,
    table_of,
    token_tensors,
)
from adapterhub.saving import native

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin

logger = logging.getLogger(__name__)

DEFAULT = "default"
_TOKENIZER, _PICKLE = "tokenizer", "embedding.pt"
_Base: Any = PreTrainedModel if TYPE_CHECKING else object


class EmbeddingsMixin(_Base):
    """Switchable embeddings: ``"default"`` are those that the model came with.

    The table that is active stands in the base model, in the module that was there before. With it go the output
    embeddings, tied or not, the biases of language-modelling heads, and ``config.vocab_size``. All others are kept in
    ``vocabularies``, a part of the model like its adapters.
    """

    vocabularies: NamedModules[Vocabulary]
    _active_embeddings = DEFAULT

    @property
    def active_embeddings(self) -> str:
        """The name of the embeddings in use; set it to switch."""
        return self._active_embeddings

    @active_embeddings.setter
    def active_embeddings(self, name: str) -> None:
        self.set_active_embeddings(name)

    @property
    def loaded_embeddings(self) -> dict[str, nn.Embedding]:
        """All tables by name, ``"default"`` among them; changing the weight of one changes it in the model."""
        active = table_of(self)
        return {self._active_embeddings: active} | {name: as_module(one) for name, one in self.vocabularies.items()}

    def add_embeddings(
        self,
        name: str,
        tokenizer: "PreTrainedTokenizerBase",
        reference_embedding: str | None = None,
        reference_tokenizer: "PreTrainedTokenizerBase | None" = None,
        embedding_dim: int | None = None,
    ) -> None:
        """Add embeddings for the vocabulary of a tokenizer, and make them active.

        Args:
            name: a name without ``"."``.
            tokenizer: whose tokens there will be, by their ids.
            reference_embedding: the name of embeddings (``"default"``, say) from which tokens that both vocabularies
                have are copied; all others are random, as the base model makes its own.
            reference_tokenizer: the tokenizer of these.
            embedding_dim: the width of the table, which has to be that of the base model's.

        Raises:
            EmbeddingsError: for a name that is taken, another width, or one of the two references alone.
        """
        self._check_new(name)
        width = table_of(self).weight.shape[1]
        if embedding_dim not in (None, width):
            raise EmbeddingsError(f"embeddings of this model are {width} wide, not embedding_dim={embedding_dim}")
        if (reference_embedding is None) != (reference_tokenizer is None):
            raise EmbeddingsError("reference_embedding and reference_tokenizer belong together: give both, or neither")
        tokens = dict(tokenizer.get_vocab())
        size = max(len(tokenizer), *(index + 1 for index in tokens.values()))
        padding = getattr(tokenizer, "pad_token_id", None)
        made = {path: blank(self, one, self._vocabulary_size, size) for path, one in token_tensors(self).items()}
        if reference_embedding is not None and reference_tokenizer is not None:
            known = reference_tokenizer.get_vocab()
            shared = [(index, known[token]) for token, index in tokens.items() if token in known]
            copy_entries(self._tensors_of(reference_embedding), made, size, shared)
        self._note_padding(padding)
        self._hold_new(name, made, padding)

    def delete_embeddings(self, name: str) -> None:
        """Remove embeddings; if they were active, ``"default"`` is afterwards.

        Raises:
            EmbeddingsError: if there are none of that name, or for ``"default"``, which belongs to the model.
        """
        self._tensors_of(name)
        if name == DEFAULT:
            raise EmbeddingsError(f"the {DEFAULT!r} embeddings are those of the model, and stay")
        if name == self._active_embeddings:
            self.set_active_embeddings(DEFAULT)
        del self.vocabularies[name]

    def set_active_embeddings(self, name: str) -> None:
        """Switch to other embeddings; ``"default"`` are those that the model came with.

        Parameters are moved, not copied: an optimiser keeps hold of them.

        Raises:
            EmbeddingsError: if there are none of that name, or an active adapter is fitted to the present ones.
            MergeError: if an adapter is merged into the model.
        """
        if name == self._active_embeddings:
            return
        self._tensors_of(name)
        self._check_switchable()
        current, old_size = token_tensors(self), self._vocabulary_size
        chosen = self.vocabularies[name]
        stored = chosen.tensors()
        size = stored[TABLE].shape[0]
        swaps = {
            id(tensor): stored[path] if path in stored else blank(self, tensor, old_size, size)
            for path, tensor in current.items()
        }
        table = table_of(self)
        exchange(self, swaps, old_size, size)
        self.vocabularies[self._active_embeddings] = Vocabulary(current, table.padding_idx)
        table.padding_idx = chosen.padding_idx
        del self.vocabularies[name]
        self._active_embeddings = name
        note_vocabulary_size(self, old_size, size)

    def save_embeddings(
        self, path: str | PathLike[str], name: str, tokenizer: "PreTrainedTokenizerBase | None" = None
    ) -> None:
        """Save embeddings, and their tokenizer, as a folder that ``load_embeddings`` reads.

        A crash while saving leaves what was in the folder before.

        Raises:
            EmbeddingsError: if there are none of that name.
            CheckpointError: if the folder cannot be written to.
        """
        tensors = self._tensors_of(name)
        info = native.described(_with_adapters(self), name, tokenizer)
        info["base_model"]["vocab_size"] = self._tensors_of(DEFAULT)[TABLE].shape[0]
        if tokenizer is not None:
            tokenizer.save_pretrained(Path(path) / _TOKENIZER)
        write(path, EMBEDDINGS_MANIFEST, info, {"embeddings": Part({"padding_idx": self._padding_of(name)}, tensors)})

    def load_embeddings(
        self,
        path: str | PathLike[str],
        name: str,
        allow_other_base: bool = False,
        allow_pickle: bool = False,
    ) -> Any:
        """Load embeddings that ``save_embeddings`` wrote, and make them active; returns their tokenizer, or None.

        With ``allow_pickle`` the table in an ``embedding.pt`` of ``adapters`` is read, and nothing else in it.

        Raises:
            EmbeddingsError: for a name that is taken.
            CheckpointNotFoundError: if there are no embeddings in the folder.
            CorruptCheckpointError: if a file is truncated, altered or malformed.
            BaseModelMismatchError: if they were made for another base model, unless ``allow_other_base``.
            TensorMismatchError: if they are of another width.
        """
        folder = Path(path)
        self._check_new(name)
        tensors, padding = self._read(folder, allow_other_base, allow_pickle)
        size = self._check_table(tensors, folder)
        made = {}
        for where, own in token_tensors(self).items():
            found = tensors.pop(where, None)
            shape = with_entries(own, self._vocabulary_size, size)
            if found is not None and list(found.shape) != shape:
                raise TensorMismatchError(f"{folder}: {where} is of shape {list(found.shape)}, and {shape} is needed")
            made[where] = blank(self, own, self._vocabulary_size, size) if found is None else like(found, own)
        if tensors:
            logger.warning(
                "%s: %s have no place in %s and are left out", folder, ", ".join(tensors), type(self).__name__
            )
        tokenizer = folder / _TOKENIZER
        loaded = AutoTokenizer.from_pretrained(tokenizer) if tokenizer.is_dir() else None
        self._hold_new(name, made, padding)
        return loaded

    def freeze_embeddings(self, freeze: bool = True) -> None:
        """Freeze (or unfreeze) input and output embeddings, those that are active."""
        for module in (self.get_input_embeddings(), self.get_output_embeddings()):
            if module is not None:
                module.requires_grad_(not freeze)

    def forget_vocabularies_of(self, head_name: str) -> None:
        """Drop what embeddings that are not active keep of a head which is gone."""
        for vocabulary in getattr(self, "vocabularies", {}).values():  # a model has heads before it has adapters
            vocabulary.forget(f"heads.{head_name}.")

    def embeddings_config(self) -> dict[str, Any] | None:
        """What ``save_pretrained`` notes of the embeddings; None if there are those of the model alone."""
        if not len(self.vocabularies):
            return None
        others = {name: one.padding_idx for name, one in self.vocabularies.items()}
        return {"active": self._active_embeddings, "padding_idx": table_of(self).padding_idx, "others": others}

    def restore_embeddings(self, noted: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up the embeddings that ``save_pretrained`` wrote, by name and name of their tensors.

        Raises:
            CorruptCheckpointError: if the table of some is missing.
        """
        places = token_tensors(self)
        for name, padding in noted["others"].items():
            found = {path.replace("/", "."): tensor for path, tensor in tensors.get(name, {}).items()}
            if TABLE not in found:
                raise CorruptCheckpointError(f"the embeddings {name!r} are missing from the files of the model")
            if unknown := [path for path in found if path not in places]:
                logger.warning("embeddings %r: %s have no place in this model", name, ", ".join(unknown))
            fitting = {path: like(tensor, places[path]) for path, tensor in found.items() if path in places}
            self.vocabularies[name] = Vocabulary(fitting, padding)
        self._active_embeddings = noted["active"]
        table_of(self).padding_idx = noted["padding_idx"]

    @property
    def _vocabulary_size(self) -> int:
        return table_of(self).weight.shape[0]

    def _tensors_of(self, name: str) -> dict[str, Tensor]:
        if name == self._active_embeddings:
            return token_tensors(self)
        if name not in self.vocabularies:
            known = ", ".join([self._active_embeddings, *self.vocabularies])
            raise EmbeddingsError(f"no embeddings named {name!r} in this model; it holds: {known}")
        return self.vocabularies[name].tensors()

    def _padding_of(self, name: str) -> int | None:
        holder: Any = table_of(self) if name == self._active_embeddings else self.vocabularies[name]
        return None if holder.padding_idx is None else int(holder.padding_idx)

    def _check_new(self, name: str) -> None:
        check_name(name)
        if name == self._active_embeddings or name in self.vocabularies:
            raise EmbeddingsError(f"there are embeddings {name!r} already: delete them, or choose another name")
        self._check_switchable()

    def _check_switchable(self) -> None:
        native.check_unmerged(_with_adapters(self))
        model = _with_adapters(self)
        setup = model.active_adapters
        fitted = [name for name in (setup.names() if setup else ()) if model.adapters[name].vocabulary is not None]
        if fitted:
            raise EmbeddingsError(
                f"adapter {fitted[0]!r} is active and changes the table of embeddings that is in use now: call "
                "set_active_adapters(None) before the embeddings are switched"
            )

    def _check_table(self, tensors: Mapping[str, Tensor], folder: Path) -> int:
        """The number of tokens of a table that fits."""
        width, table = table_of(self).weight.shape[1], tensors.get(TABLE)
        if table is None or table.dim() != 2 or table.shape[1] != width:
            shape = "missing" if table is None else f"of shape {list(table.shape)}"
            raise TensorMismatchError(f"{folder}: the table of embeddings is {shape}; this model needs [*, {width}]")
        return table.shape[0]

    def _read(self, folder: Path, allow_other_base: bool, allow_pickle: bool) -> tuple[dict[str, Tensor], int | None]:
        pickle = folder / _PICKLE
        if pickle.is_file() and not (folder / EMBEDDINGS_MANIFEST).exists():
            if not allow_pickle:
                raise CheckpointNotFoundError(
                    f"{folder} holds a pickle of adapters, {_PICKLE}; pass allow_pickle=True to read the table in it"
                )
            return {TABLE: _unpickled(pickle)}, None
        manifest = read(folder, EMBEDDINGS_MANIFEST)
        if not manifest.has("embeddings"):
            raise CheckpointNotFoundError(f"{folder} holds no embeddings")
        if not allow_other_base:
            native.check_base(_with_adapters(self), manifest)
        return manifest.tensors("embeddings"), manifest.config("embeddings").get("padding_idx")

    def _hold_new(self, name: str, tensors: Mapping[str, Tensor], padding: int | None) -> None:
        self.vocabularies[name] = Vocabulary(tensors, padding)
        self.set_active_embeddings(name)

    def _note_padding(self, padding: int | None) -> None:
        own = self._padding_of(DEFAULT)
        if own is not None and padding is not None and padding != own:
            logger.warning(
                "the tokenizer pads with token %d, and the base model takes %d for padding: pass an attention_mask, "
                "and mind that a model which numbers positions by its padding token numbers them differently",
                padding,
                own,
            )


def _with_adapters(model: Any) -> "AdapterMixin":
    """What the mixin is part of."""
    return cast("AdapterMixin", model)


def _unpickled(path: Path) -> Tensor:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whoever wrote the file chose its content
        raise CorruptCheckpointError(f"{path} is not a pickle of a tensor: {error}") from error
    if not isinstance(found, Tensor) or not torch.isfinite(found).all():
        raise CorruptCheckpointError(f"{path} is not a tensor of finite values")
    return found.detach()
