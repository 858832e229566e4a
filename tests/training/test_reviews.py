"""The reviews that are shipped: what their README promises."""

import csv
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

import adapterhub.training

FOLDER = Path(adapterhub.training.__file__).parent / "reviews"
SIZES = {"train": 408, "validation": 96, "test": 96}
Row = dict[str, str]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    """Read by the standard library, and strictly, so as not to lean on the code under test."""
    splits = {}
    for split in SIZES:
        with (FOLDER / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            splits[split] = list(csv.DictReader(file, strict=True))
    return splits


def test_sizes_and_balance_of_every_split(rows: dict[str, list[Row]]) -> None:
    for split, count in SIZES.items():
        cells = Counter((row["subject"], row["label"]) for row in rows[split])
        assert len(rows[split]) == count
        assert len(cells) == 24, "twelve subjects, two labels"
        assert set(cells.values()) == {count // 24}


def test_no_text_is_near_another_in_any_split(rows: dict[str, list[Row]]) -> None:
    texts = [row["text"] for split in rows.values() for row in split]
    words = [frozenset(re.findall(r"\w+", text.lower())) for text in texts]
    near = [
        (texts[i], texts[j])
        for (i, a), (j, b) in itertools.combinations(enumerate(words), 2)
        if len(a & b) >= 0.6 * len(a | b)
    ]
    assert near == []


def test_texts_are_whole_and_clean(rows: dict[str, list[Row]]) -> None:
    texts = [row["text"] for split in rows.values() for row in split]
    assert all(8 <= len(text.split()) <= 36 for text in texts)
    assert all(text == " ".join(text.split()) for text in texts)
    assert all(text.isprintable() and "\ufffd" not in text for text in texts)
    assert all(text[-1] in '.!?"' for text in texts)


def test_no_opening_is_worn_out(rows: dict[str, list[Row]]) -> None:
    openings = Counter(" ".join(row["text"].split()[:3]).lower() for split in rows.values() for row in split)
    assert max(openings.values()) <= 2


def test_length_does_not_give_the_label_away(rows: dict[str, list[Row]]) -> None:
    lengths: dict[str, list[int]] = {"0": [], "1": []}
    for row in itertools.chain(*rows.values()):
        lengths[row["label"]].append(len(row["text"].split()))
    means = {label: sum(counts) / len(counts) for label, counts in lengths.items()}
    assert abs(means["0"] - means["1"]) < 1


def test_the_readme_says_what_they_are() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "are invented" in text and "Not good for claims" in text and "Apache-2.0" in text
