"""Labelled text, ready for training, from a file, a folder, the Hugging Face Hub, or the set that is shipped."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adapterhub.errors import DataError
from adapterhub.training.columns import Examples, find_columns, find_labels, read_examples
from adapterhub.training.sources import SHIPPED, find_source, slug
from adapterhub.training.splits import complete, overlaps

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["SHIPPED", "TextData", "load_data", "slug"]


@dataclass(frozen=True)
class TextData:
    """A text classification task.

    The splits have the columns ``text``, ``text_pair`` where a row holds two texts, and ``label``, an integer.

    Attributes:
        name: a short name, fit for a file name.
        labels: names of the classes, in the order of their ids.
        source: where it was read from.
        notes: what was done to the data that a reader of results should know.
    """

    name: str
    train: "Dataset"
    validation: "Dataset"
    test: "Dataset"
    labels: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, "Dataset"]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def pairs(self) -> bool:
        """Whether a row holds two texts."""
        return "text_pair" in self.train.column_names

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names of the labels and all rows in order; where they came from plays no part."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for name, split in self.splits.items():
            digest.update(f"\n{name}\n".encode())
            for row in split:
                digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()


def load_data(
    source: str | Path = SHIPPED,
    *,
    text_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    label_names: Sequence[str] | None = None,
    seed: int = 0,
) -> TextData:
    """Load a text classification task.

    A single file is split 80/10/10. Without a test split the validation split is the test, so that nothing is chosen on
    the data that is reported; a missing validation split is a tenth of the training data. Splits made so depend on
    ``seed`` alone, are even over the classes, and keep equal texts together. The notes say what was done.

    Args:
        source: ``"reviews"``, the shipped set (a folder of this name is ``"./reviews"``); a file; a folder of files
            named ``train``, ``validation`` (``valid``, ``val``, ``dev``) and ``test``, where ``folder/books`` takes
            ``books_train`` and its like; else a data set on the Hugging Face Hub: ``"rotten_tomatoes"``,
            ``"organisation/name"``, ``"name:configuration"``. Files are CSV, TSV, JSON lines or parquet.
        text_column: the column with the text, or two that make a pair. By default the usual names are looked for,
            pairs such as ``premise`` and ``hypothesis`` first; ``title`` and ``content`` are joined by a line break.
        label_column: the column with the class. By default the usual names are looked for.
        label_names: names of the classes in the order of their ids.
        seed: of the splits that are made.

    Raises:
        DataError: if there is no such data, or it is not fit: unreadable, empty, without text or label, with a single
            class, or with labels in one split that the training data lacks.
    """
    found = find_source(source)
    notes = list(found.notes)
    columns = find_columns(found.tables["train"], text_column, label_column)
    splits: dict[str, Examples] = {}
    for split, table in found.tables.items():
        examples = read_examples(table, columns)
        if len(examples) < len(table):
            notes.append(f"{split}: {len(table) - len(examples)} of {len(table)} rows have no label (-1): left out")
        if len(examples):
            splits[split] = examples
    if "train" not in splits:
        raise DataError(f"{found.description}: no row of the training data has a label. Give labelled data.")
    declared = found.label_names or found.tables["train"].class_names.get(columns.label)
    labels = find_labels(splits["train"], label_names or declared)
    splits, made = complete({split: labels.encode(examples) for split, examples in splits.items()}, seed)
    data = {split: _dataset(examples, labels.names) for split, examples in splits.items()}
    return TextData(
        name=found.name,
        train=data["train"],
        validation=data["validation"],
        test=data["test"],
        labels=labels.names,
        source=found.description,
        notes=(*notes, *made, *overlaps(splits)),
    )


def _dataset(examples: Examples, names: Sequence[str]) -> "Dataset":
    from datasets import ClassLabel, Dataset, Features, Value

    columns = {"text": examples.texts, "text_pair": examples.pairs, "label": examples.labels}
    kinds = {"text": Value("string"), "text_pair": Value("string"), "label": ClassLabel(names=list(names))}
    present = {name: values for name, values in columns.items() if values is not None}
    return Dataset.from_dict(present, features=Features({name: kinds[name] for name in present}))
