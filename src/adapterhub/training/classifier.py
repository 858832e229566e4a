"""A trained text classifier as a folder: saved, loaded, and used through a transformers pipeline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TextClassificationPipeline

from adapterhub.auto import AutoAdapterModel
from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import CheckpointError, DataError
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.backbones import loading, public_name, resolve_backbone
from adapterhub.training.progress import Progress
from adapterhub.training.recipe import Trained

Text = str | tuple[str, str]


def save_classifier(trained: Trained, folder: Path) -> None:
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
    """A fresh model with the adapter and head of ``folder`` active, in evaluation mode, and its tokenizer.

    ``model`` overrides the backbone that the checkpoint names. ``pairs`` says whether pairs of texts will come.

    Raises:
        CheckpointError: if the checkpoint cannot be read, does not fit, or has no head that classifies.
        BackboneError: if the base model cannot be loaded.
        DataError: if the adapter was trained on pairs and single texts will come, or the other way.
    """
    content = read(folder, ADAPTER_MANIFEST).content
    meta = content.get("meta") or {}
    if pairs is not None and meta.get("pairs", pairs) != pairs:
        kinds = ("single texts", "pairs of texts")
        raise DataError(f"{folder} was trained on {kinds[not pairs]}, and is given {kinds[pairs]}")
    if "head" not in content:
        raise CheckpointError(f"{folder} holds an adapter without a head, which cannot classify")
    name = model or meta.get("backbone") or (content.get("base_model") or {}).get("name")
    if not name:
        raise CheckpointError(f"{folder} does not say for which base model it is; name one (--model)")
    backbone = resolve_backbone(name)
    with loading(name):
        loaded = AutoAdapterModel.from_pretrained(backbone)
        tokenizer = AutoTokenizer.from_pretrained(backbone, model_max_length=meta.get("max_length", 512))
    loaded.load_adapter(folder, set_active=True)
    if loaded.get_labels() is None:
        raise CheckpointError(f"{folder} has a head that does not classify")
    return loaded.eval(), tokenizer


def split_pairs(folder: Path, lines: Sequence[str]) -> list[Text]:
    """Lines as the texts that the adapter of ``folder`` takes: for one trained on pairs, two with a tab between them.

    Raises:
        CheckpointError: if it cannot be read.
        DataError: if a line of a pair holds not one tab.
    """
    meta = read(folder, ADAPTER_MANIFEST).content.get("meta") or {}
    if not meta.get("pairs"):
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
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], ...]:
    """Label and score of each text (or pair of texts), by a transformers pipeline."""
    model.eval()
    device = 0 if torch.cuda.is_available() else -1
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=device)

    def inputs() -> Iterator[Any]:
        for text in texts:
            yield text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}

    answers = []
    for text, answer in zip(texts, pipeline(inputs(), batch_size=batch_size, truncation=True), strict=True):
        shown = text if isinstance(text, str) else " / ".join(text)
        answers.append({"text": shown, **answer})
        if progress is not None:
            progress(len(answers), len(texts), "texts")
    return tuple(answers)
