"""The tensors of a model that go with its vocabulary: which they are, and new ones for another vocabulary."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine.named import ADDED
from adapterhub.engine.vocabulary import TABLE, Vocabulary, entries_dim, has_entries, note_size, with_entries
from adapterhub.errors import EmbeddingsError
from adapterhub.heads.base import text_config, word_embeddings


def table_of(model: Any) -> nn.Embedding:
    """The module that maps tokens to vectors.

    Raises:
        EmbeddingsError: if the model reads no tokens.
    """
    found = word_embeddings(model)
    if found is None:
        raise EmbeddingsError(f"{type(model).__name__} has no table of word embeddings")
    return found


def token_tensors(model: Any) -> dict[str, Tensor]:
    """The table in use, and by its path every other tensor with an entry for each token; a shared one once."""
    table = table_of(model).weight
    size, found = table.shape[0], {id(table): (TABLE, table)}
    for prefix, module in _scoring_modules(model):
        apart = () if prefix else (*ADDED, model.base_model_prefix)
        for path, tensor in [*module.named_parameters(prefix), *module.named_buffers(prefix)]:
            if has_entries(tensor, size) and path.partition(".")[0] not in apart:
                found.setdefault(id(tensor), (path, tensor))
    return dict(found.values())


def _scoring_modules(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Modules, by path, that hold what gives scores to tokens: language-modelling heads."""
    for name, head in getattr(model, "heads", {}).items():
        if head.scores_tokens:
            yield f"heads.{name}", head
    output = model.get_output_embeddings()
    if output is None:
        return
    if model.base_model is model:  # encoder and decoder stand loose beside the head
        yield next((path, module) for path, module in model.named_modules() if module is output)
    else:
        yield "", model


def note_vocabulary_size(model: Any, old_size: int, size: int) -> None:
    """In the configurations of a model and of its parts, and in its heads."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            note_size(module, old_size, size)
            note_size(text_config(module.config), old_size, size)
    for head in getattr(model, "heads", {}).values():
        head.resize_vocabulary(size)


def as_module(vocabulary: Vocabulary) -> nn.Embedding:
    weight: Any = vocabulary.tensors()[TABLE]
    size, width = weight.shape
    made = nn.Embedding(size, width, padding_idx=vocabulary.padding_idx, device="meta")
    made.weight = weight
    return made


@torch.no_grad()
def blank(model: PreTrainedModel, tensor: Tensor, old_size: int, size: int) -> Tensor:
    """A tensor like ``tensor`` for another vocabulary: a table as the base model makes its own, a bias of zeros."""
    shape = with_entries(tensor, old_size, size)
    if tensor.dim() == 2 and entries_dim(tensor, old_size) == 0:
        module = nn.Embedding(shape[0], shape[1])
        model._init_weights(module)
        return like(module.weight, tensor)
    return like(torch.zeros(shape), tensor)


def like(values: Tensor, tensor: Tensor) -> Tensor:
    """``values`` as ``tensor`` is kept: a frozen parameter or a buffer, on its device and in its data type."""
    made = values.detach().to(tensor.device, tensor.dtype)
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


@torch.no_grad()
def copy_entries(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], size: int, pairs: "list[tuple[int, int]]"
) -> None:
    """Copy entries from one vocabulary to another: ``pairs`` of where to and where from."""
    if not pairs:
        return
    to, come = (torch.tensor(one) for one in zip(*pairs, strict=True))
    for path, tensor in target.items():
        if path in source:
            dim = entries_dim(tensor, size)
            chosen = source[path].index_select(dim, come.to(tensor.device))
            tensor.index_copy_(dim, to.to(tensor.device), chosen.to(tensor.dtype))
