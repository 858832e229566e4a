"""Texts and labels out of the columns of a table, whatever these are called and however labels are written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapterhub.errors import DataError
from adapterhub.training.tables import Table

PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
TITLED = ("title", "content")  # two columns that are one text
TEXTS = ("text", "sentence", "content", "review", "question", "utterance", "tweet", "document", "comment", "body")
LABELS = ("label", "labels", "class", "sentiment", "category", "target", "intent", "coarse_label", "gold_label")
UNLABELLED = -1  # how data sets on the Hub, whose classes are declared, mark rows without a label


@dataclass(frozen=True)
class Columns:
    """Which columns hold the text (one, two that make a pair, or a title and its text) and the label."""

    texts: tuple[str, ...]
    pair: bool
    label: str


@dataclass(frozen=True)
class Examples:
    """Labelled texts; ``pairs`` are the second texts, None where there are none."""

    where: str
    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> "Examples":
        """The examples at these positions."""
        pairs = None if self.pairs is None else [self.pairs[row] for row in rows]
        return Examples(self.where, [self.texts[row] for row in rows], pairs, [self.labels[row] for row in rows])

    def keys(self) -> list[tuple[str, str]]:
        """What two examples with the same texts have in common."""
        return list(zip(self.texts, self.pairs or [""] * len(self), strict=True))


def find_columns(table: Table, text_column: str | Sequence[str] | None, label_column: str | None) -> Columns:
    """The columns with text and label by their usual names, in any case; arguments name them where they are others.

    Raises:
        DataError: if a column is not there, or is the text and the label at once.
    """
    texts, pair = find_text_columns(table, text_column)
    label = _one(table, (label_column,) if label_column else LABELS, "label")
    if label in texts:
        raise DataError(
            f"{table.where}: column {label!r} cannot be text and label at once. Name the columns by text_column and "
            "label_column."
        )
    return Columns(texts, pair, label)


def find_text_columns(table: Table, wanted: str | Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """The columns with text, as ``find_columns`` finds them, and whether they make a pair.

    Raises:
        DataError: if one is not there.
    """
    if wanted is not None:
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        if not 1 <= len(names) <= 2:
            raise DataError(f"text_column is the name of a column, or of two that make a pair, and not {wanted!r}")
        return tuple(_one(table, (name,), "text") for name in names), len(names) == 2
    known = _lower(table)
    for names in (*PAIRS, TITLED):
        if all(name in known for name in names):
            return tuple(known[name] for name in names), names is not TITLED
    return (_one(table, TEXTS, "text"),), False


def _one(table: Table, names: Sequence[str], role: str) -> str:
    known = _lower(table)
    for name in names:
        if name in table.columns:
            return name
        if name.lower() in known:
            return known[name.lower()]
    there = ", ".join(repr(name[:40]) for name in table.columns)
    raise DataError(
        f"{table.where} has no {role} column: looked for {', '.join(names)}; the columns are {there}. "
        f"Name the right one by {role}_column."
    )


def _lower(table: Table) -> dict[str, str]:
    return {name.lower(): name for name in reversed(list(table.columns))}


def read_examples(table: Table, columns: Columns) -> Examples:
    """Take the texts and the labels, as they are written, out of a table; rows marked as unlabelled are left out.

    Raises:
        DataError: if a column is missing or not text, or if texts or labels are empty.
    """
    missing = [name for name in (*columns.texts, columns.label) if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.where} lacks the column {missing[0]!r}, which the training data has; its columns are "
            f"{', '.join(table.columns)}. Give all splits the same columns, or take this one away."
        )
    texts = [_strings(table, name) for name in columns.texts]
    if len(texts) == 2 and not columns.pair:
        texts = [["\n".join(filter(str.strip, parts)) for parts in zip(*texts, strict=True)]]
    name = " and ".join(map(repr, columns.texts))
    for values in texts:
        _refuse(table.where, [not text.strip() for text in values], f"no text in column {name}", "Remove these rows")
    labels = [value.strip() if isinstance(value, str) else value for value in table.columns[columns.label][:]]
    empty = [value is None or value == "" or value != value for value in labels]  # only NaN is not itself
    _refuse(table.where, empty, f"no label in column {columns.label!r}", "Label or remove them")
    examples = Examples(table.where, texts[0], texts[1] if columns.pair else None, labels)
    if columns.label not in table.class_names:
        return examples
    return examples.take([row for row, label in enumerate(labels) if label != UNLABELLED])


def _strings(table: Table, name: str) -> list[str]:
    values = ["" if value is None or value != value else value for value in table.columns[name][:]]
    row = next((row for row, value in enumerate(values, 1) if not isinstance(value, str)), None)
    if row is not None:
        kind = type(values[row - 1]).__name__
        raise DataError(
            f"{table.where}: column {name!r} is not text: row {row} is of type {kind}. Name the column by text_column."
        )
    return values


def _refuse(where: str, bad: Sequence[bool], what: str, remedy: str) -> None:
    """Raise an error that counts the bad rows; rows are numbered from 1, without the header."""
    if any(bad):
        count = sum(bad)
        raise DataError(
            f"{where}: {count} of {len(bad)} rows {'has' if count == 1 else 'have'} {what}, "
            f"{'it is' if count == 1 else 'the first is'} row {bad.index(True) + 1}. {remedy}."
        )


@dataclass(frozen=True)
class Labels:
    """The classes of a task: how each is written in the data, in the order of ids, and its name."""

    values: tuple[int, ...] | tuple[str, ...]
    names: tuple[str, ...]

    def encode(self, examples: Examples) -> Examples:
        """The examples with ids for labels.

        Raises:
            DataError: for a label that is not among the classes.
        """
        read = _integer if isinstance(self.values[0], int) else str
        ids = {value: index for index, value in enumerate(self.values)}
        encoded = [ids.get(read(label)) for label in examples.labels]
        if None in encoded:
            first = encoded.index(None)
            raise DataError(
                f"{examples.where}: {encoded.count(None)} rows have a label that the training data lacks, the first is "
                f"row {first + 1} with {examples.labels[first]!r}; training has {_listed(self.values)}. Correct these "
                "labels, or add examples of them to the training data."
            )
        return replace(examples, labels=encoded)


def find_labels(train: Examples, names: Sequence[str] | None) -> Labels:
    """The classes of the training data, with names if the source of the data or a person gives them.

    Integers (also written ``"1"``, ``1.0`` or ``True``) that are 0 to n-1 are the ids, and without names are called
    ``LABEL_0`` and so on. Other integers and strings get ids in sorted order and keep their spelling as names; for
    strings, ``names`` gives another order.

    Raises:
        DataError: if there is one class only, if labels are no classes, or if ``names`` do not fit them.
    """
    odd = [row for row, label in enumerate(train.labels) if not _is_class(label)]
    if odd:
        label = train.labels[odd[0]]
        raise DataError(
            f"{train.where}: row {odd[0] + 1} has the label {str(label)[:40]!r} of type {type(label).__name__}; "
            "a class is a string or a whole number. Name the right column by label_column."
        )
    numbers = [number for label in train.labels if (number := _integer(label)) is not None]
    if len(numbers) == len(train):
        labels = _numbered(train.where, sorted(set(numbers)), names)
    else:
        labels = _spelled(train.where, sorted({str(label) for label in train.labels}), names)
    if len(set(labels.encode(train).labels)) < 2:
        raise DataError(
            f"{train.where}: all {len(train)} rows have the label {train.labels[0]!r}, and nothing can be learnt from "
            "one class. Add examples of another, or name the right column by label_column."
        )
    return labels


def _numbered(where: str, found: Sequence[int], names: Sequence[str] | None) -> Labels:
    if names is None:
        are_ids = list(found) == list(range(len(found)))
        return Labels(tuple(found), tuple(f"LABEL_{value}" if are_ids else str(value) for value in found))
    _refuse_twins(names)
    if found[0] >= 0 and found[-1] < len(names):
        return Labels(tuple(range(len(names))), tuple(names))
    if len(found) == len(names):
        return Labels(tuple(found), tuple(names))
    raise DataError(
        f"{where}: {len(names)} label names ({_listed(names)}) do not fit {len(found)} classes ({_listed(found)}). "
        "Name every class once by label_names, in ascending order of the numbers."
    )


def _spelled(where: str, found: Sequence[str], names: Sequence[str] | None) -> Labels:
    _refuse_twins(names or ())
    if names is not None and set(names) != set(found):
        raise DataError(
            f"{where}: label_names are {_listed(names)}, but the labels in the data are {_listed(found)}. "
            "Give the same names, in the order of the ids that they shall have."
        )
    ordered = tuple(names or found)
    return Labels(ordered, ordered)


def _refuse_twins(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise DataError(f"label_names hold a name twice: {_listed(names)}. Every class needs a name of its own.")


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:10]))
    return f"{shown} and {len(values) - 10} more" if len(values) > 10 else shown


def _is_class(label: object) -> bool:
    return isinstance(label, (str, int)) or (isinstance(label, float) and label.is_integer())


def _integer(label: object) -> int | None:
    try:
        value = float(label)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(value) if value.is_integer() else None
