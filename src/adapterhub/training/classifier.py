"""A trained text classifier as a folder: saved, loaded, and used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from adapterhub.auto import AutoAdapterModel
from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import CheckpointError, DataError
from adapterhub.inference import Predictor
from adapterhub.inference.precision import Precision
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.backbones import loading, public_name, resolve_backbone

if TYPE_CHECKING:
    from adapterhub.training.progress import Progress
    from adapterhub.training.recipe import Trained

Text = str | tuple[str, str]
_FEW = 64


def save_classifier(trained: "Trained", folder: Path) -> None:
    """Save an adapter and its head, with what is needed to use it: backbone, length of the input, texts or pairs.

    Raises:
        CheckpointError: if the folder cannot be written to.
    """
    settings = trained.result.settings
    meta = {"backbone": public_name(settings.model), "max_length": settings.max_length, "method": settings.method}
    meta["pairs"] = trained.pairs
    trained.model.save_adapter(folder, trained.name, meta_dict=meta, tokenizer=trained.tokenizer)


def load_classifier(
    folder: Path, model: str | None = None, *, pairs: bool | None = None
) -> tuple[FlexibleAdapterMixin, PreTrainedTokenizerBase]:
    """As ``load_trained``, for a head that classifies.

    Raises:
        CheckpointError: if it has no head that classifies.
        CheckpointError, BackboneError, DataError: as ``load_trained``.
    """
    loaded, tokenizer = load_trained(folder, model, pairs=pairs)
    if loaded.get_labels() is None:
        raise CheckpointError(f"{folder} has a head that does not classify")
    return loaded, tokenizer


def load_trained(
    folder: Path, model: str | None = None, *, pairs: bool | None = None
) -> tuple[FlexibleAdapterMixin, PreTrainedTokenizerBase]:
    """A fresh model with the adapter and head of ``folder`` active, in evaluation mode, and its tokenizer.

    ``model`` overrides the backbone that the checkpoint names. ``pairs`` says whether pairs of texts will come.

    Raises:
        CheckpointError: if the checkpoint cannot be read, does not fit, or has no head.
        BackboneError: if the base model cannot be loaded.
        DataError: if the adapter was trained on pairs and single texts will come, or the other way.
    """
    content = read(folder, ADAPTER_MANIFEST).content
    meta = content.get("meta") or {}
    if pairs is not None and meta.get("pairs", pairs) != pairs:
        kinds = ("single texts", "pairs of texts")
        raise DataError(f"{folder} was trained on {kinds[not pairs]}, and is given {kinds[pairs]}")
    if "head" not in content:
        raise CheckpointError(f"{folder} holds an adapter without a head, which cannot predict")
    name = model or meta.get("backbone") or (content.get("base_model") or {}).get("name")
    if not name:
        raise CheckpointError(f"{folder} does not say for which base model it is; name one (--model)")
    backbone = resolve_backbone(name)
    with loading(name):
        loaded = AutoAdapterModel.from_pretrained(backbone)
        tokenizer = AutoTokenizer.from_pretrained(backbone, model_max_length=meta.get("max_length", 512))
    loaded.load_adapter(folder, set_active=True)
    return loaded.eval(), tokenizer


def is_for_pairs(folder: Path) -> bool | None:
    """Whether the adapter of ``folder`` takes pairs of texts; None if that is not known.

    Raises:
        CheckpointError: if it cannot be read.
    """
    content = read(folder, ADAPTER_MANIFEST).content
    if (content.get("head") or {}).get("config", {}).get("head_type") == "question_answering":
        return True
    found: bool | None = (content.get("meta") or {}).get("pairs")
    return found


def split_pairs(folder: Path, lines: Sequence[str]) -> list[Text]:
    """Lines as the texts that the adapter of ``folder`` takes: for one trained on pairs, two with a tab between them.

    Raises:
        CheckpointError: if it cannot be read.
        DataError: if a line of a pair holds not one tab.
    """
    if not is_for_pairs(folder):
        return list(lines)
    texts: list[Text] = []
    for line in lines:
        first, *rest = line.split("\t")
        if len(rest) != 1:
            raise DataError(f"{folder} was trained on pairs: give two texts with a tab between them, not {line!r}")
        texts.append((first, rest[0]))
    return texts


def predict(
    model: FlexibleAdapterMixin,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    precision: Precision = "auto",
    token_budget: int | None = None,
    progress: "Progress | None" = None,
) -> tuple[dict[str, Any], ...]:
    """Label and score of each text (or pair of texts), or what else the head gives; arguments as of ``Predictor``.

    Fewer texts than 64 are not worth another precision, and are read in that of the model.

    Raises:
        ConfigError: for a precision that the model cannot have.
        DataError: for texts that the head cannot take.
    """
    if precision == "auto" and len(texts) < _FEW:
        precision = "own"
    predictor = Predictor(model, tokenizer, precision=precision, token_budget=token_budget)
    answers = []
    for text, answer in zip(texts, predictor(texts), strict=True):
        answers.append({"text": text if isinstance(text, str) else " / ".join(text), **plain(answer)})
        if progress is not None:
            progress(len(answers), len(texts), "texts")
    return tuple(answers)


def plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer ready for JSON: vectors are lists."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in answer.items()}
