"""The whole job once, from labelled text to predictions: train, compare, save, reload, use, report."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TextClassificationPipeline

from adapterhub.auto import AutoAdapterModel
from adapterhub.errors import TrainingError
from adapterhub.model import FlexibleAdapterMixin
from adapterhub.training.backbones import resolve_backbone
from adapterhub.training.compare import Comparison, Progress, compare
from adapterhub.training.data import SHIPPED, TextData, load_data
from adapterhub.training.recipe import FULL, HEAD, Settings, train_classifier
from adapterhub.training.report import write_report

ADAPTER = "seq_bn[reduction_factor=6]"
# The shipped set is small: fewer rates, more epochs, one seed, and it is done within five minutes on two cores.
_SMALL_RATES = {ADAPTER: (1e-3, 3e-3), FULL: (1e-4, 2e-4), HEAD: (3e-3, 1e-2)}
_EXAMPLES = 6


@dataclass(frozen=True)
class Quickstart:
    """Where everything is, and what came out."""

    comparison: Comparison
    adapter: Path
    report: Path
    examples: tuple[dict[str, Any], ...]


def quickstart(
    model: str = "minilm",
    data: str = SHIPPED,
    output_dir: Path = Path("runs/quickstart"),
    *,
    epochs: int | None = None,
    seeds: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Quickstart:
    """Train an adapter, compare it with full fine-tuning and the head alone, save it, reload it, and predict with it.

    ``epochs`` are by default 8 for the shipped data and 5 for other; ``seeds`` 1 and 3. ``say`` is told of each step.

    Raises:
        DataError, BackboneError: if data or model cannot be used.
        TrainingError: if a run fails, or the reloaded adapter does not predict what the trained one did.
    """
    loaded = load_data(data)
    small = data == SHIPPED
    settings = Settings(model=model, method=ADAPTER, epochs=epochs or (8 if small else 5))
    rows = ", ".join(f"{len(split)} {name}" for name, split in loaded.splits.items())
    say(f"{loaded.name}: {rows} rows")
    comparison = compare(
        model,
        data,
        (ADAPTER, FULL, HEAD),
        seeds=seeds or (1 if small else 3),
        learning_rates=_SMALL_RATES if small else None,
        settings=settings,
        output_dir=output_dir,
        progress=progress,
    )
    best = replace(settings, learning_rate=comparison.methods[0].learning_rate)
    say("training the adapter once more with the rate that was chosen, to keep it")
    trained = train_classifier(best, loaded, output_dir, show_progress=False, name=loaded.name)
    shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
    folder = output_dir / "adapter"
    save_classifier(trained.model, trained.name, trained.tokenizer, best, folder)
    say("reloading it into a fresh model")
    fresh, tokenizer = load_classifier(folder)
    texts = _examples(loaded)
    before, after = (predict(m, tokenizer, texts) for m in (trained.model, fresh))
    if before != after:
        raise TrainingError(f"the adapter reloaded from {folder} predicts other scores than the one that was saved")
    report = write_report(comparison, output_dir / "report.html", after)
    return Quickstart(comparison, folder, report, after)


def save_classifier(
    model: FlexibleAdapterMixin, name: str, tokenizer: PreTrainedTokenizerBase, settings: Settings, folder: Path
) -> None:
    """Save an adapter and its head, with what is needed to use it: backbone and length of the input."""
    meta = {"backbone": settings.model, "max_length": settings.max_length, "method": settings.method}
    model.save_adapter(folder, name, meta_dict=meta, tokenizer=tokenizer)


def load_classifier(folder: Path, model: str | None = None) -> tuple[FlexibleAdapterMixin, PreTrainedTokenizerBase]:
    """A fresh model with the adapter and head of ``folder`` active, in evaluation mode, and its tokenizer.

    ``model`` overrides the backbone that the checkpoint names.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """
    from adapterhub.checkpoints import ADAPTER_MANIFEST, read

    content = read(folder, ADAPTER_MANIFEST).content
    meta = content.get("meta") or {}
    backbone = resolve_backbone(model or meta.get("backbone") or content["base_model"]["name"])
    loaded = AutoAdapterModel.from_pretrained(backbone)
    loaded.load_adapter(folder, set_active=True)
    tokenizer = AutoTokenizer.from_pretrained(backbone, model_max_length=meta.get("max_length", 512))
    return loaded.eval(), tokenizer


def predict(
    model: FlexibleAdapterMixin, tokenizer: PreTrainedTokenizerBase, texts: list[Any], batch_size: int = 32
) -> tuple[dict[str, Any], ...]:
    """Label and score of each text (or pair of texts), by a transformers pipeline."""
    model.eval()
    device = 0 if torch.cuda.is_available() else -1
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=device)
    inputs = [{"text": text[0], "text_pair": text[1]} if isinstance(text, tuple) else text for text in texts]
    answers = pipeline(inputs, batch_size=batch_size, truncation=True)
    shown = [" / ".join(text) if isinstance(text, tuple) else text for text in texts]
    return tuple({"text": text, **answer} for text, answer in zip(shown, answers, strict=True))


def _examples(data: TextData) -> list[Any]:
    """A few rows of the test split, as many of each class."""
    rows: list[Any] = []
    per_class = max(1, _EXAMPLES // len(data.labels))
    for label in range(len(data.labels)):
        chosen = [row for row in data.test if row["label"] == label][:per_class]
        rows += [(row["text"], row["text_pair"]) if data.pairs else row["text"] for row in chosen]
    return rows[:_EXAMPLES]
