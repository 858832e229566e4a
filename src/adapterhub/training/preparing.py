"""Model and data made ready for training a text classifier."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, set_seed

from adapterhub.auto import AutoAdapterModel
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.data import TextData
from adapterhub.training.settings import FULL, HEAD, Settings


@dataclass(frozen=True)
class Task:
    """A model ready to train, and the tokens of the texts that it trains, is chosen and is tested on."""

    model: FlexibleAdapterMixin
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    validation: Dataset
    test: Dataset


def prepare(settings: Settings, data: TextData, name: str = "task") -> Task:
    """Set the seed, load the backbone and add what ``settings`` say, called ``name``; tokenize the data.

    Raises:
        BackboneError: if the base model cannot be loaded.
        ConfigError: if ``settings.method`` is no configuration of an adapter.
    """
    set_seed(settings.seed)
    backbone = resolve_backbone(settings.model)
    with loading(settings.model):
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        model = build_model(settings, data, backbone, name)
    splits = (tokenize(split, tokenizer, settings.max_length) for split in (data.train, data.validation, data.test))
    return Task(model, tokenizer, *splits)


def build_model(settings: Settings, data: TextData, backbone: str, name: str) -> FlexibleAdapterMixin:
    """The backbone with a classification head ``name`` (and an adapter of that name), ready to train."""
    model = AutoAdapterModel.from_pretrained(backbone)
    add_classifier(model, settings, data, name)
    return model


def add_classifier(model: FlexibleAdapterMixin, settings: Settings, data: TextData, name: str) -> None:
    """Add a classification head ``name`` (and an adapter of that name) to a model; nothing else trains then.

    Their values depend on the seed, and not on what was added before.
    """
    set_seed(settings.seed)
    labels = dict(enumerate(data.labels))
    if settings.method not in (FULL, HEAD):
        model.add_adapter(name, config=settings.method)
    model.add_classification_head(name, num_labels=len(labels), id2label=labels)
    if settings.method == FULL:
        model.requires_grad_(True)
    elif settings.method == HEAD:
        model.freeze_model()
    else:
        model.train_adapter(name)


def tokenize(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids and labels; padding comes later, batch by batch."""

    def encode(batch: dict[str, list[Any]]) -> Any:
        pairs = [batch["text_pair"]] if "text_pair" in batch else []
        return tokenizer(batch["text"], *pairs, truncation=True, max_length=max_length)

    columns = [column for column in ("text", "text_pair") if column in rows.column_names]
    return rows.map(encode, batched=True, remove_columns=columns, load_from_cache_file=False).rename_column(
        "label", "labels"
    )
