"""Tables from files: what is read, and what is refused with its place."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from adapterhub.errors import DataError
from adapterhub.training.tables import concatenate, read_table, table_format

TEXTS = ['plain "quoted" text', "a, comma", "two\nlines", "NA", " null", "12", "crème — ünï 🙂", "tab\there"]
LABELS = [0, 1, 0, 1, 0, 1, 0, 1]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.json", "t.parquet", "t.csv.gz", "t.TSV.gz", "t.jsonl.gz"]
)
def test_what_pandas_writes_comes_back(tmp_path: Path, name: str) -> None:
    frame, path = pd.DataFrame({"text": TEXTS, "label": LABELS}), tmp_path / name
    kind = name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind in ("csv", "tsv"):
        compression = "gzip" if name.endswith(".gz") else None
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",", compression=compression)
    else:
        compression = "gzip" if name.endswith(".gz") else None
        frame.to_json(path, orient="records", lines=kind != "json", compression=compression)
    table = read_table(path)
    assert list(table.columns["text"]) == TEXTS
    assert [int(label) for label in table.columns["label"]] == LABELS
    assert len(table) == len(TEXTS)


def test_byte_order_mark_windows_line_ends_and_spaces_in_the_header(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", b"\xef\xbb\xbftext, label\r\nfine,1\r\n\r\nbad,0\r\n"))
    assert dict(table.columns) == {"text": ["fine", "bad"], "label": ["1", "0"]}


def test_tsv_with_bare_quotes_is_not_glued_together(tmp_path: Path) -> None:
    rows = ['"Fine" he said\t1', 'a 5" nail\t0', '"an open quote\t1', "plain\t0"]
    table = read_table(write(tmp_path / "t.tsv", "\n".join(["sentence\tlabel", *rows]) + "\n"))
    assert list(table.columns["sentence"]) == ['"Fine" he said', 'a 5" nail', '"an open quote', "plain"]
    assert list(table.columns["label"]) == ["1", "0", "1", "0"]


def test_parquet_of_datasets_keeps_the_names_of_classes(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.class_names == {"label": ("neg", "pos")}
    assert list(table.columns["label"]) == [1, 0]


def test_missing_keys_of_json_lines_are_none(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.jsonl", '{"text": "a"}\n\n{"label": 1, "text": "b"}'))
    assert dict(table.columns) == {"text": ["a", "b"], "label": [None, 1]}


def test_a_line_of_json_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.jsonl", '{"text": "a\u2028b\x85c"}\r\n{"text": "d"}\r\n'))
    assert list(table.columns["text"]) == ["a\u2028b\x85c", "d"]


def test_shards_are_put_together_in_order(tmp_path: Path) -> None:
    parts = [read_table(write(tmp_path / f"{i}.csv", f"text,label\nt{i},{i}\n")) for i in range(3)]
    whole = concatenate(parts)
    assert list(whole.columns["text"]) == ["t0", "t1", "t2"]
    assert "and 2 more" in whole.where
    other = read_table(write(tmp_path / "o.csv", "text,class\na,1\n"))
    with pytest.raises(DataError, match=r"o\.csv has the columns text, class, but .*0\.csv"):
        concatenate([parts[0], other])


def test_formats_by_ending() -> None:
    names = ["a.csv", "b.tar.csv.gz", "c.JSONL", "d.txt", "csv", "e.parquet.gz", "f.csv.xz"]
    assert [table_format(Path(name)) for name in names] == [".csv", ".csv.gz", ".jsonl", None, None, None, None]


GOOD = gzip.compress(b"text,label\na,1\n" * 100, mtime=0)  # or names of tests would hold the time of day


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", "a", r"t\.txt: unknown kind of file\. Known are \.csv"),
        ("t.csv", "", r"t\.csv is empty"),
        ("t.csv", "text,label\n", r"t\.csv is empty: it holds no rows"),
        ("t.jsonl", "\n\n", r"t\.jsonl is empty"),
        ("t.csv", b"text,label\nfine,1\ncaf\xe9,0\n", r"t\.csv is not UTF-8: byte 0xe9 in line 3"),
        (
            "t.csv",
            "text,label\nfine,1\none, two,0\n",
            r"t\.csv, line 3: 3 fields, but the header has 2 \(text, label\)",
        ),
        ("t.csv", 'text,label\n"two\nlines",1\nshort\n', r"t\.csv, line 4: 1 fields, but the header has 2"),
        ("t.tsv", "text\tlabel\na\tb\t1\n", r"t\.tsv, line 2: 3 fields"),
        ("t.csv", 'text,label\n"open,1\nnext,0\n', r"t\.csv, line 3: unexpected end of data.*quote"),
        ("t.csv", 'text,label\n"a" b,1\n', r"t\.csv, line 2: .*quote"),
        ("t.csv", "text,text,label\na,b,1\n", r"the header names 'text' more than once"),
        ("t.jsonl", '{"text": "a"}\n{"text": \n', r"t\.jsonl, line 2 is not JSON"),
        ("t.jsonl", '{"text": "a"}\n["b", 1]\n', r"t\.jsonl, line 2: a JSON object is needed; this is a list"),
        ("t.json", json.dumps([{"text": "a"}, 3]), r"t\.json, element 2: .*this is a int"),
        ("t.json", "[1,", r"t\.json is not JSON"),
        ("t.parquet", b"PAR1 this is not", r"t\.parquet is not a parquet file"),
        ("t.csv.gz", b"text,label\na,1\n", r"t\.csv\.gz is not a whole gzip file"),
        ("t.csv.gz", GOOD[: len(GOOD) // 2], r"t\.csv\.gz is not a whole gzip file"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / name, content))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be read"):
        read_table(tmp_path / "none.csv")
