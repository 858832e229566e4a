"""Looking at what was trained: scores of a saved adapter, what it is, and what a model offers it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig

from adapterhub.auto import AutoAdapterModel
from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import CheckpointNotFoundError, DataError, LabelMismatchError, SiteError
from adapterhub.methods import load_config
from adapterhub.sites import Sites, discover
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.classifier import load_classifier, predict
from adapterhub.training.data import load_data
from adapterhub.training.progress import Progress


def evaluate_classifier(
    adapter: Path,
    source: str,
    split: str = "test",
    model: str | None = None,
    *,
    data_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy and macro F1 of a saved adapter on one split of labelled text.

    ``split`` ``"all"`` takes every row. ``model`` overrides the base model that the checkpoint names. ``source`` and
    ``data_options`` go to ``load_data``.

    Raises:
        CheckpointError: if the adapter cannot be loaded.
        BackboneError: if the base model cannot be loaded.
        DataError: if the data cannot be used, has no such split, or pairs of texts where the adapter has single ones.
        LabelMismatchError: if adapter and data have not the same labels.
    """
    from sklearn.metrics import accuracy_score, f1_score

    data = load_data(source, **(data_options or {}))
    if split not in (*data.splits, "all"):
        raise DataError(f"there is no split {split!r}; the splits are {', '.join(data.splits)}, and all of them (all)")
    loaded, tokenizer = load_classifier(adapter, model, pairs=data.pairs)
    labels = tuple(loaded.get_labels() or ())
    if len(labels) != len(data.labels) or (set(labels) != set(data.labels) and not _nameless(labels, data.labels)):
        raise LabelMismatchError(f"the adapter has the labels {', '.join(labels)}, the data {', '.join(data.labels)}")
    splits = data.splits.values() if split == "all" else (data.splits[split],)
    rows = {column: [value for part in splits for value in part[column]] for column in data.train.column_names}
    texts = list(zip(rows["text"], rows["text_pair"], strict=True)) if data.pairs else rows["text"]
    ids = {label: index for index, label in enumerate(labels)}
    guesses = [ids[answer["label"]] for answer in predict(loaded, tokenizer, texts, progress=progress)]
    names = labels if _nameless(labels, data.labels) else data.labels
    gold = [ids[names[label]] for label in rows["label"]]
    return {
        "accuracy": float(accuracy_score(gold, guesses)),
        "macro_f1": float(f1_score(gold, guesses, average="macro")),
        "rows": len(texts),
        "split": split,
        "data": data.name,
        "data_sha256": data.fingerprint,
    }


def describe_adapter(folder: Path) -> dict[str, Any]:
    """What a saved adapter is, by its manifest; ``options`` are those that differ from the defaults.

    Raises:
        CheckpointError: if it cannot be read, or is no adapter.
        ConfigError: if its method is not known here.
    """
    manifest = read(folder, ADAPTER_MANIFEST)
    if not manifest.has("adapter"):
        raise CheckpointNotFoundError(f"{folder} holds a head and no adapter")
    content = manifest.content
    config = load_config(manifest.config("adapter"))
    defaults = type(config)().to_dict()
    meta, base = content.get("meta") or {}, content.get("base_model") or {}
    values = {
        "adapter": content.get("name"),
        "method": config.method,
        "options": {key: value for key, value in config.to_dict().items() if value != defaults.get(key)},
        "parameters": content["adapter"]["weights"].get("parameters"),
        "base_model": {key: base.get(key) for key in ("name", "model_type", "layers", "hidden_size")},
        "head": None,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    }
    if "backbone" in meta:
        values["base_model"]["name"] = meta["backbone"]
    if manifest.has("head"):
        head = manifest.config("head")
        labels = head.get("id2label") or (head.get("settings") or {}).get("id2label") or {}
        values["head"] = {"type": head.get("architecture") or head.get("head_type"), "labels": [*labels.values()]}
    return values


def sites_of(name: str) -> Sites:
    """Where adapters can act in the model behind a name, folder or ``config.json``; its weights are not read.

    Raises:
        BackboneError: if there is no such configuration.
        SiteError: if the model has no sites.
    """
    config = _config(name)
    try:
        with torch.device("meta"):
            return discover(AutoModel.from_config(config, attn_implementation="eager"))
    except SiteError:  # some models cannot run without values: random ones do
        return discover(AutoModel.from_config(config))


def describe_model(name: str) -> dict[str, Any]:
    """What the model behind a name, folder or ``config.json`` is, with the adapters saved in it; weights are not read.

    Raises:
        BackboneError: if there is no such configuration.
        SiteError: if the model has no sites.
    """
    config = _config(name)
    saved = getattr(config, "adapterhub", None) or {}
    with torch.device("meta"):
        model = AutoAdapterModel.from_config(config)
        model.init_adapters(sites_of(name))
        for adapter, values in saved.items():
            model.engine.hold(model.engine.build(adapter, load_config(values)))
    *adapters, whole = model.adapter_summary().rows()
    shown = ("name", "method", "parameters", "percent")
    return {
        "model": name,
        "type": config.model_type,
        "parameters": whole["parameters"],
        "layers": len(model.sites.layers),
        "width": max(sublayer.width for sublayer in model.sites.sublayers),
        "sublayers": sum(1 for _ in model.sites.sublayers),
        "heads": sorted(model.get_prediction_heads_config()),
        "adapters": [{key: row[key] for key in shown} for row in adapters],
    }


def _config(name: str) -> PretrainedConfig:
    is_file = name.endswith(".json") and Path(name).expanduser().is_file()
    with loading(name):
        config: PretrainedConfig = AutoConfig.from_pretrained(name if is_file else resolve_backbone(name))
        return config


def _nameless(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of the two only numbers its labels, so that their order has to tell."""
    return any(all(label.startswith("LABEL_") for label in labels) for labels in (one, other))
