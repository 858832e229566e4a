"""Labelled text from a file, a folder, the Hub, or the set that is shipped with the package."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

SHIPPED = "reviews"
_TEXT = ("text", "sentence", "content", "review", "question", "premise", "sentence1", "question1", "document")
_PAIR = {"text": "text_pair", "sentence1": "sentence2", "premise": "hypothesis", "question1": "question2"}
_LABEL = ("label", "labels", "class", "sentiment", "category", "target", "coarse_label")
_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "val"), "test": ("test",)}
_READERS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")


@dataclass(frozen=True)
class TextData:
    """A text classification task: three splits with the columns ``text``, ``text_pair`` (if pairs) and ``label``.

    ``labels`` are the names of the classes in the order of their ids; ``notes`` say what was done to the data that
    a reader of a result should know; ``fingerprint`` is a SHA-256 over all of it.
    """

    name: str
    train: "Dataset"
    validation: "Dataset"
    test: "Dataset"
    labels: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    fingerprint: str = ""

    @property
    def pairs(self) -> bool:
        """Whether a row holds two texts."""
        return "text_pair" in self.train.column_names


def load_data(
    source: str | Path = SHIPPED,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    label_names: tuple[str, ...] | None = None,
    seed: int = 0,
) -> TextData:
    """Load a task from ``"reviews"`` (shipped), a file, a folder with one file a split, or the Hub.

    Files are CSV, TSV, JSON lines or parquet. A single file is split 80/10/10, evenly over the classes, by ``seed``;
    a missing validation or test split is taken from the training data in the same manner. In a folder with several
    sets, ``folder/books`` reads ``books_train.csv`` and so on. A path that exists wins over a name on the Hub.

    Raises:
        DataError: if there is no such data, or it is not fit: unreadable, empty, without text or label column, with
            empty texts, with a single class, or with labels in one split that the training data lacks.
    """
    if str(source) == SHIPPED and not Path(SHIPPED).exists():
        return _from_folder(Path(str(files("adapterhub.training") / "reviews")), "", SHIPPED, seed, "text", "label", ("negative", "positive"))  # fmt: skip
    path = Path(source)
    if path.is_file():
        frames, notes = _split({"train": _read(path)}, seed, label_column)
        return _task(path.name, frames, notes, text_column, label_column, label_names)
    if path.is_dir():
        return _from_folder(path, "", path.name, seed, text_column, label_column, label_names)
    if path.parent.is_dir() and any(path.parent.glob(f"{path.name}_*")):
        return _from_folder(path.parent, f"{path.name}_", path.name, seed, text_column, label_column, label_names)
    return _from_hub(str(source), seed, text_column, label_column, label_names)


def _from_folder(
    folder: Path,
    prefix: str,
    name: str,
    seed: int,
    text_column: str | None,
    label_column: str | None,
    label_names: tuple[str, ...] | None,
) -> TextData:
    frames = {}
    for split, names in _SPLITS.items():
        candidates = [folder / f"{prefix}{stem}{ending}" for stem in names for ending in _READERS]
        found = [path for path in candidates if path.is_file()]
        if found:
            frames[split] = _read(found[0])
    if "train" not in frames:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder} holds no {prefix}train file ({', '.join(_READERS)}), but {there}")
    frames, notes = _split(frames, seed, label_column)
    return _task(name, frames, notes, text_column, label_column, label_names)


def _from_hub(
    name: str, seed: int, text_column: str | None, label_column: str | None, label_names: tuple[str, ...] | None
) -> TextData:
    from datasets import load_dataset

    path, _, config = name.partition(":")
    try:
        loaded = load_dataset(path, config or None)
    except Exception as error:  # datasets, its readers and the network fail in many ways
        raise DataError(
            f"{name!r} is neither a file or folder here nor a data set that could be loaded from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}). "
            "Give a CSV, TSV, JSON-lines or parquet file, or a folder of them."
        ) from error
    frames = {}
    for split, names in _SPLITS.items():
        found = next((candidate for candidate in names if candidate in loaded), None)
        if found is not None:
            frames[split] = loaded[found].to_pandas()
            feature = loaded[found].features.get(label_column or "label")
            label_names = label_names or (tuple(feature.names) if hasattr(feature, "names") else None)
    if "train" not in frames:
        raise DataError(f"the data set {name!r} has no training split, but {', '.join(loaded)}")
    frames, notes = _split(frames, seed, label_column)
    return _task(name, frames, notes, text_column, label_column, label_names)


def _read(path: Path) -> "DataFrame":
    import pandas as pd

    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    readers: Mapping[str, Callable[..., Any]] = {
        "csv": pd.read_csv,
        "tsv": lambda file, **kwargs: pd.read_csv(file, sep="\t", **kwargs),
        "jsonl": lambda file, **kwargs: pd.read_json(file, lines=True),
        "json": lambda file, **kwargs: pd.read_json(file, lines=True),
        "parquet": lambda file, **kwargs: pd.read_parquet(file),
    }
    if kind not in readers:
        raise DataError(f"{path}: the format .{kind} is unknown; known are {', '.join(_READERS)}")
    try:
        frame = readers[kind](path, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Convert it to UTF-8.") from error
    except Exception as error:  # each reader has exceptions of its own
        raise DataError(f"{path} could not be read as {kind}: {error}") from error
    if frame.empty:
        raise DataError(f"{path} holds no rows")
    return frame


def _split(
    frames: "dict[str, DataFrame]", seed: int, label_column: str | None
) -> "tuple[dict[str, DataFrame], tuple[str, ...]]":
    """Take the splits that are missing out of the training data, evenly over the classes."""
    from sklearn.model_selection import train_test_split

    notes = []
    frames = dict(frames)
    size = max(1, round(0.1 * len(frames["train"])))
    for split in ("test", "validation"):
        if split in frames:
            continue
        whole = frames["train"]
        label = _column(whole, _LABEL, label_column, "label")
        try:
            frames["train"], frames[split] = train_test_split(
                whole, test_size=size, random_state=seed, stratify=whole[label]
            )
        except ValueError as error:
            raise DataError(f"{len(whole)} rows are too few to split: {error}") from error
        notes.append(f"the {split} split ({size} rows) was taken from the training data (seed {seed})")
    return frames, tuple(notes)


def _task(
    name: str,
    frames: "dict[str, DataFrame]",
    notes: tuple[str, ...],
    text_column: str | None,
    label_column: str | None,
    label_names: tuple[str, ...] | None,
) -> TextData:
    from datasets import Dataset

    label = _column(frames["train"], _LABEL, label_column, "label")
    values = sorted(frames["train"][label].unique().tolist(), key=lambda value: (isinstance(value, str), value))
    if len(values) < 2:
        raise DataError(f"{name}: the training data has a single class, {values[0]!r}")
    numbers = all(isinstance(value, int) for value in values) and values == list(range(len(values)))
    names = label_names or tuple(f"LABEL_{value}" if numbers else str(value) for value in values)
    if len(names) != len(values):
        raise DataError(f"{name}: {len(values)} classes ({values[:8]}), but {len(names)} label names")
    ids = {value: index for index, value in enumerate(values)}
    splits = {}
    for split, frame in frames.items():
        rows = _texts(f"{name} ({split})", frame, text_column)
        unknown = sorted({str(value) for value in frame[label].unique() if value not in ids})
        if unknown:
            raise DataError(
                f"{name}: the {split} split has labels that the training data lacks: {', '.join(unknown[:8])}"
            )
        splits[split] = rows | {"label": [ids[value] for value in frame[label]]}
    digest = hashlib.sha256(json.dumps([splits, names], sort_keys=True).encode()).hexdigest()
    data = {split: Dataset.from_dict(columns) for split, columns in splits.items()}
    return TextData(name, data["train"], data["validation"], data["test"], names, notes, digest)


def _texts(where: str, frame: "DataFrame", text_column: str | None) -> dict[str, list[str]]:
    """The columns ``text`` and, for pairs, ``text_pair``; a title is put before its text."""
    column = _column(frame, _TEXT, text_column, "text")
    columns = {"text": [str(value) for value in frame[column]]}
    empty = [row for row, text in enumerate(columns["text"]) if not text.strip() or text == "None"]
    if empty:
        raise DataError(
            f"{where}: {len(empty)} rows have no text in column {column!r}, the first is row {empty[0] + 1}"
        )
    if column == "content" and "title" in frame:
        columns["text"] = [f"{title}. {text}" if str(title).strip() else text for title, text in zip(frame["title"], columns["text"], strict=True)]  # fmt: skip
    pair = _PAIR.get(column)
    if pair in frame:
        columns["text_pair"] = [str(value) for value in frame[pair]]
    return columns


def _column(frame: "DataFrame", known: tuple[str, ...], wanted: str | None, role: str) -> str:
    names = [str(name) for name in frame.columns]
    found = [wanted] if wanted in names else [] if wanted else [name for name in known if name in names]
    if not found:
        looked = wanted or ", ".join(known)
        raise DataError(
            f"no {role} column: looked for {looked}; the columns are {', '.join(names)}. Name it by {role}_column."
        )
    return found[0]


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
