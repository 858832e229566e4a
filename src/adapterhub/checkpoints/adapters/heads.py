"""Flexible heads as ``adapters`` writes them: the modules of a sequence by number."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from adapterhub.checkpoints.adapters.layout import ANY
from adapterhub.checkpoints.entries import Entry, from_theirs, same, to_theirs
from adapterhub.errors import CheckpointError

_STEM = f"heads.{ANY}."
_CLASSIFIERS = (
    "classification",
    "multilabel_classification",
    "image_classification",
    "tagging",
    "multiple_choice",
    "question_answering",
)
_PARSER = "dependency_parsing"
_LANGUAGE = ("masked_lm", "causal_lm", "seq2seq_lm")
_OPTIONS = {
    **dict.fromkeys(
        _CLASSIFIERS,
        ("num_labels", "num_choices", "layers", "activation_function", "use_pooler", "bias", "multilabel"),
    ),
    _PARSER: ("num_labels",),
    **dict.fromkeys(_LANGUAGE, ("layers", "activation_function", "layer_norm", "bias")),
}
_SHIFTED = ("causal_lm",)
_WITH_DROPOUT = (*_CLASSIFIERS, _PARSER, "causal_lm")


def read(
    content: Mapping[str, Any], found: Mapping[str, Tensor], what: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration of a head, and its tensors by their names here.

    Raises:
        CheckpointError: for a head of another kind.
        TensorMismatchError: if tensors are missing.
    """
    given = dict(content.get("config") or {})
    kind = given.get("head_type")
    if kind not in _OPTIONS:
        which = f"the head type {kind!r}" if kind else f"the head of {content.get('model_class')}"
        raise CheckpointError(f"{what} has {which}, which cannot be read; pass with_head=False")
    config = {"head_type": kind} | {name: given[name] for name in _OPTIONS[kind] if given.get(name) is not None}
    if kind in _LANGUAGE:
        last = max(int(key.split(".")[2]) for key in found)
        config["bias"] = f"{_STEM}{last}.bias" in found
        kept = {key: tensor for key, tensor in found.items() if key != f"{_STEM}{last}.weight"}  # the embeddings
        return config, from_theirs(_entries([_ours(key, last) for key in kept], last), kept, what)
    config["dropout"] = given.get("dropout_prob")
    if labels := given.get("label2id"):
        config["id2label"] = {int(index): str(label) for label, index in labels.items()}
    names = [key.removeprefix(_STEM) if kind == _PARSER else _ours(key) for key in found]
    return config, from_theirs(_entries(names), found, what)


def write(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    labels: Mapping[int, str] | None,
    embeddings: Tensor | None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and tensors of a head; ``embeddings`` ``[tokens, width]`` are those that a language model scores with.

    Raises:
        CheckpointError: for a head that ``adapters`` has not.
    """
    kind = config["head_type"]
    if kind not in _OPTIONS:
        raise CheckpointError(
            f"adapters has no head of the type {kind!r}. Save the adapter alone (with_head=False), or in the format of "
            "adapterhub."
        )
    known = set(_OPTIONS[kind])
    given = {name: config[name] for name in ("head_type", *_OPTIONS[kind]) if name in config}
    strange = [name for name in config if name not in known | {"head_type", "dropout", "id2label"}]
    if strange and any(config[name] for name in strange):
        raise CheckpointError(f"adapters has no option {', '.join(strange)} of a {kind} head; pass with_head=False")
    if kind in _WITH_DROPOUT:
        given["dropout_prob"] = config.get("dropout")
    if kind not in _LANGUAGE:
        given["label2id"] = None if labels is None else {label: index for index, label in labels.items()}
        given |= {"use_pooler": bool(given["use_pooler"])} if "use_pooler" in given else {}
        return given, to_theirs(_entries(tensors), tensors)
    assert embeddings is not None
    last = 1 + max((int(name.split(".")[1]) for name in tensors if name.startswith("layers.")), default=-1)
    given |= {"vocab_size": embeddings.shape[0], "label2id": None, "shift_labels": kind in _SHIFTED}
    if kind != "seq2seq_lm":
        given["embedding_size"] = embeddings.shape[1]
    decoder = {f"{_STEM}{last}.weight": embeddings.detach().cpu()}
    return given, to_theirs(_entries(tensors, last), tensors) | decoder


def _entries(names: Mapping[str, Tensor] | list[str], last: int | None = None) -> Iterator[Entry]:
    """Every tensor, by both names; ``last`` is the number of the map to the vocabulary."""
    for name in names:
        leaf = f"{last}.bias" if name == "bias" else name.removeprefix("layers.")
        yield same(f"{_STEM}{leaf}", name)


def _ours(key: str, last: int | None = None) -> str:
    leaf = key.removeprefix(_STEM)
    return "bias" if leaf == f"{last}.bias" else f"layers.{leaf}"
