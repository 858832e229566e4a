"""Which files of a folder make a data set, and data sets on the Hub (stood in for here)."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from adapterhub.errors import DataError
from adapterhub.training.sources import Source, find_source, slug


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"text,label\n{name},1\n", encoding="utf-8")
    return folder


def texts(source: Source) -> dict[str, list[str]]:
    return {split: list(table.columns["text"]) for split, table in source.tables.items()}


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev", "Dev"])
def test_a_folder_of_splits(tmp_path: Path, validation: str) -> None:
    folder = fill(tmp_path / "my set", "train.csv", f"{validation}.csv", "test.csv", "notes.txt")
    source = find_source(folder)
    assert texts(source) == {"train": ["train.csv"], "validation": [f"{validation}.csv"], "test": ["test.csv"]}
    assert (source.name, source.description, source.notes) == ("my-set", str(folder), ())


def test_tables_that_are_no_split_are_noted(tmp_path: Path) -> None:
    source = find_source(fill(tmp_path, "train.csv", "test.csv", "test_hard.csv"))
    assert source.notes == ("not used: test_hard.csv",)


def test_several_sets_in_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "shop", "books_train.csv", "books_test.csv", "dvd_train.csv", "dvd_test.csv")
    source = find_source(str(folder / "dvd"))
    assert texts(source) == {"train": ["dvd_train.csv"], "test": ["dvd_test.csv"]}
    assert (source.name, source.notes) == ("shop_dvd", ())
    with pytest.raises(DataError, match=r"several data sets: books, dvd\. Name one, such as .*books"):
        find_source(folder)
    with pytest.raises(DataError, match=r"there is no file or folder .*toys"):
        find_source(folder / "toys")


def test_a_single_set_with_a_prefix_needs_no_name(tmp_path: Path) -> None:
    assert texts(find_source(fill(tmp_path, "sst2_train.csv", "sst2-dev.csv")))["train"] == ["sst2_train.csv"]


def test_shards_of_a_split(tmp_path: Path) -> None:
    fill(tmp_path, "train-00001-of-00002.csv", "train-00000-of-00002.csv", "test.csv")
    assert texts(find_source(tmp_path))["train"] == ["train-00000-of-00002.csv", "train-00001-of-00002.csv"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.tsv"], r"several files for the train split: train\.csv, train\.tsv"),
        (["train.csv", "dev.csv", "validation.csv"], "several files for the validation split"),
        (["test.csv", "data.csv"], r"no training data: looked for train .* found data\.csv, test\.csv"),
        ([], "found nothing"),
    ],
)
def test_folders_that_are_not_clear(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_source(fill(tmp_path, *names))


def test_a_file(tmp_path: Path) -> None:
    fill(tmp_path, "all of it.csv")
    source = find_source(tmp_path / "all of it.csv")
    assert (source.name, texts(source)) == ("all-of-it", {"train": ["all of it.csv"]})


@pytest.mark.parametrize("name", ["no/such/file", "./nothing", "missing.csv", "/nowhere", "~/nowhere-at-all", "a b"])
def test_what_looks_like_a_path_is_not_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(DataError, match="there is no file or folder"):
        find_source(name)
    with pytest.raises(DataError, match="there is no file or folder"):
        find_source(Path("rotten_tomatoes_of_nowhere"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A Hub with one data set, the test of which has no labels; the names that were asked for."""
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])})

    def split(*labels: int) -> Dataset:
        return Dataset.from_dict({"sentence": [f"s{i}" for i in range(len(labels))], "label": labels}, features)

    asked: list[tuple[str, str | None]] = []

    def load_dataset(path: str, configuration: str | None) -> DatasetDict:
        asked.append((path, configuration))
        return DatasetDict({"train": split(0, 1), "validation": split(1), "test": split(-1), "unsupervised": split(-1)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "dataset_info", lambda name: SimpleNamespace(id=f"owner/{name}"))
    return asked


def test_a_data_set_of_the_hub(
    hub: list[tuple[str, str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = find_source("nyu-mll/glue:sst2")
    assert hub == [("nyu-mll/glue", "sst2")]
    assert (source.name, source.notes) == ("glue-sst2", ("not used: unsupervised",))
    assert source.tables["train"].class_names == {"label": ("negative", "positive")}
    assert list(source.tables["train"].columns["sentence"]) == ["s0", "s1"]
    find_source("sst2")
    assert hub[1] == ("owner/sst2", None), "a name without owner is looked up first"
    fill(tmp_path / "sst2", "train.csv")
    assert texts(find_source("sst2")) == {"train": ["train.csv"]}, "a path that exists goes first"


def test_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object) -> None:
        raise ConnectionError("no route to host\nand a long tail")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"\(ConnectionError: no route to host\).* without internet, give a folder"):
        find_source("owner/name")


def test_slug() -> None:
    assert slug(" a b/c:d*e.f_g ") == "a-b-c-d-e.f_g"
