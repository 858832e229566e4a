"""Looking at what was trained: scores of a saved adapter, what it is, and what a model offers it."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import BackboneError, DataError, LabelMismatchError, SiteError
from adapterhub.sites import Sites, discover
from adapterhub.training.backbones import resolve_backbone
from adapterhub.training.data import load_data
from adapterhub.training.quickstart import load_classifier, predict


def evaluate_classifier(
    adapter: Path,
    source: str,
    split: str = "test",
    model: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> dict[str, Any]:
    """Accuracy and macro F1 of a saved adapter on one split of labelled text.

    Raises:
        CheckpointError: if the adapter cannot be loaded.
        DataError: if the data cannot be used, or has no such split.
        LabelMismatchError: if adapter and data have not the same labels.
    """
    from sklearn.metrics import accuracy_score, f1_score

    data = load_data(source, text_column=text_column, label_column=label_column)
    if split not in ("train", "validation", "test"):
        raise DataError(f"there is no split {split!r}; the splits are train, validation and test")
    loaded, tokenizer = load_classifier(adapter, model)
    labels = tuple(loaded.get_labels() or ())
    if len(labels) != len(data.labels) or (set(labels) != set(data.labels) and not _nameless(labels, data.labels)):
        raise LabelMismatchError(f"the adapter has the labels {', '.join(labels)}, the data {', '.join(data.labels)}")
    rows = getattr(data, split)
    texts = list(zip(rows["text"], rows["text_pair"], strict=True)) if data.pairs else list(rows["text"])
    ids = {label: index for index, label in enumerate(labels)}
    guesses = [ids[answer["label"]] for answer in predict(loaded, tokenizer, texts)]
    names = labels if _nameless(labels, data.labels) else data.labels
    gold = [ids[names[label]] for label in rows["label"]]
    return {
        "accuracy": float(accuracy_score(gold, guesses)),
        "macro_f1": float(f1_score(gold, guesses, average="macro")),
        "rows": len(texts),
        "split": split,
        "data": data.name,
    }


def describe_adapter(folder: Path) -> dict[str, Any]:
    """What a saved adapter is, by its manifest.

    Raises:
        CheckpointError: if it cannot be read.
    """
    manifest = read(folder, ADAPTER_MANIFEST)
    content = manifest.content
    base = content.get("base_model") or {}
    values: dict[str, Any] = {"name": content.get("name"), "method": manifest.config("adapter").get("method")}
    values["parameters"] = content["adapter"]["weights"].get("parameters")
    values["base model"] = (content.get("meta") or {}).get("backbone") or base.get("name")
    values["base type"] = f"{base.get('model_type')}, {base.get('layers')} layers, width {base.get('hidden_size')}"
    if manifest.has("head"):
        head = manifest.config("head")
        labels = head.get("id2label") or (head.get("settings") or {}).get("id2label") or {}
        values["head"] = head.get("architecture") or head.get("head_type")
        values["labels"] = ", ".join(map(str, labels.values())) or None
    values["bytes"] = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    values |= {f"option {name}": value for name, value in manifest.config("adapter").items() if name != "method"}
    return values


def sites_of(name: str) -> Sites:
    """Where adapters can act in the model behind a name, folder or ``config.json``; its weights are not read.

    Raises:
        BackboneError: if there is no such configuration.
        SiteError: if the model has no sites.
    """
    try:
        config = AutoConfig.from_pretrained(resolve_backbone(name))
    except (OSError, ValueError) as error:
        raise BackboneError(f"no configuration of a model at {name!r}: {str(error).splitlines()[0]}") from error
    try:
        with torch.device("meta"):
            return discover(AutoModel.from_config(config, attn_implementation="eager"))
    except SiteError:  # some models cannot run without values: random ones do
        return discover(AutoModel.from_config(config))


def _nameless(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of the two only numbers its labels, so that their order has to tell."""
    return any(all(label.startswith("LABEL_") for label in labels) for labels in (one, other))
