"""Whole data sets: the shipped one, single files, folders, and public ones where these are at hand."""

import hashlib
import json
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from adapterhub.errors import DataError
from adapterhub.training.data import TextData, load_data


def sizes(data: TextData) -> tuple[int, ...]:
    return tuple(len(split) for split in data.splits.values())


def save(path: Path, *rows: tuple[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_shipped_reviews_are_the_default() -> None:
    data = load_data()
    assert (data.name, data.labels, data.notes) == ("reviews", ("negative", "positive"), ())
    assert sizes(data) == (408, 96, 96)
    assert data.train.column_names == ["text", "label"] and not data.pairs
    assert data.train.features["label"] == ClassLabel(names=["negative", "positive"])
    assert {type(label) for label in data.train["label"]} == {int}
    assert load_data(label_names=["bad", "good"]).labels == ("bad", "good")


def test_the_fingerprint_is_of_names_and_rows_alone(tmp_path: Path) -> None:
    rows = {"train": [("a", 0), ("b", 1)], "validation": [("c", 1)], "test": [("d", 0)]}
    for folder in ("one", "two"):
        for split, content in rows.items():
            save(tmp_path / folder / f"{split}.jsonl", *content)
    save(tmp_path / "two" / "test.jsonl", ("d", 1))
    one = load_data(tmp_path / "one")
    told = hashlib.sha256(b'["LABEL_0", "LABEL_1"]')
    for split, content in rows.items():
        told.update(f"\n{split}\n".encode())
        for text, label in content:
            told.update(f'{{"label": {label}, "text": "{text}"}}\n'.encode())
    assert one.fingerprint == told.hexdigest()
    assert load_data(tmp_path / "one", label_names=["x", "y"]).fingerprint != one.fingerprint
    assert load_data(tmp_path / "two").fingerprint != one.fingerprint


def test_a_single_file_is_split_the_same_each_time(tmp_path: Path) -> None:
    path = save(tmp_path / "all.jsonl", *((f"text {i}", "yes" if i % 4 else "no") for i in range(200)))
    data = load_data(path)
    assert sizes(data) == (160, 20, 20)
    assert data.test["label"][:].count(0) == 5
    assert load_data(path).fingerprint == data.fingerprint != load_data(path, seed=1).fingerprint
    everything = [text for split in data.splits.values() for text in split["text"]]
    assert len(set(everything)) == 200
    assert len(data.notes) == 2


def test_columns_and_names_as_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "".join(f"left {i},right {i},{i % 2}\n" for i in range(20)), encoding="utf-8")
    data = load_data(path, text_column=("b", "a"), label_column="c", label_names=("off", "on"))
    assert data.pairs and data.labels == ("off", "on")
    assert data.train[0]["text"].startswith("right") and data.train[0]["text_pair"].startswith("left")


def test_labels_hidden_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["neg", "pos", "never"])})

    def split(name: str, labels: list[int]) -> Dataset:
        return Dataset.from_dict({"sentence": [f"{name} {i}" for i in range(len(labels))], "label": labels}, features)

    loaded = {
        "train": split("train", [0, 1, -1] * 20),
        "validation": split("validation", [0, 1]),
        "test": split("test", [-1] * 5),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: DatasetDict(loaded))
    data = load_data("owner/sst2")
    assert data.labels == ("neg", "pos", "never")
    assert sizes(data) == (36, 4, 2)
    assert data.test["text"][:] == ["validation 0", "validation 1"]
    assert data.notes[:3] == (
        "train: 20 of 60 rows have no label (-1): left out",
        "test: 5 of 5 rows have no label (-1): left out",
        "test: the 2 rows of the validation split, as there is no test with labels",
    )
    loaded["train"] = split("train", [-1, -1])
    with pytest.raises(DataError, match="no row of the training data has a label"):
        load_data("owner/sst2")


def test_a_label_in_validation_that_training_lacks(tmp_path: Path) -> None:
    save(tmp_path / "train.jsonl", ("a", "x"), ("b", "y"))
    save(tmp_path / "dev.jsonl", ("c", "x"), ("d", "z"))
    with pytest.raises(
        DataError, match=r"dev\.jsonl: 1 rows have a label that the training data lacks.* row 2 with 'z'"
    ):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected", "labels", "pairs", "options"),
    [
        ("rotten_tomatoes", (8530, 1066, 1066), 2, False, {}),
        ("amazon_reviews/books", (1356, 200, 400), 2, False, {}),
        ("trec", (4952, 500, 500), 6, False, {}),
        ("trec", (4952, 500, 500), 50, False, {"label_column": "fine_label"}),
        ("mrpc", (3576, 500, 1725), 2, True, {}),
        ("cola", (7698, 853, 527), 2, False, {}),
        ("rte", (2241, 249, 277), 2, True, {}),
    ],
)
def test_public_data_sets(
    data_root: Path, name: str, expected: tuple[int, ...], labels: int, pairs: bool, options: dict[str, str]
) -> None:
    data = load_data(data_root / name, **options)  # type: ignore[arg-type]
    assert (sizes(data), len(data.labels), data.pairs) == (expected, labels, pairs)


def test_public_data_sets_say_what_was_done(data_root: Path) -> None:
    notes = " ".join(load_data(data_root / "cola").notes)
    assert "not used: validation_out_of_domain.csv" in notes
    assert "the 527 rows of the validation split" in notes and "853 rows held out" in notes
    with pytest.raises(DataError, match="books, dvd, electronics, kitchen"):
        load_data(data_root / "amazon_reviews")
