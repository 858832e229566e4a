"""Files of texts in, files of answers out: every format, in order, resumed, and whole or not there."""

import csv
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tokens
from adapterhub import AutoAdapterModel
from adapterhub.errors import DataError
from adapterhub.training import predicting
from adapterhub.training.classifier import load_classifier, predict
from adapterhub.training.predicting import predict_file
from adapterhub.training.streaming import stream_table

ROWS = [{"text": row["text"], "number": index} for index, row in enumerate(tokens.sentences(30))]
TEXTS = [str(row["text"]) for row in ROWS]


def written(folder: Path, name: str) -> Path:
    """``ROWS`` as a file of that name."""
    path = folder / name
    kind = name.partition(".")[2].removesuffix(".gz")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    lines = {
        "txt": [*TEXTS[:9], "", *TEXTS[9:]],
        "csv": ["text,number", *(f'"{row["text"]}",{row["number"]}' for row in ROWS)],
        "tsv": ["text\tnumber", *(f"{row['text']}\t{row['number']}" for row in ROWS)],
        "jsonl": [json.dumps(row) for row in ROWS],
        "json": [json.dumps(ROWS)],
    }[kind]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv.gz", "a.jsonl.gz", "a.json", "a.parquet"])
def test_every_format_is_read_row_by_row(name: str, tmp_path: Path) -> None:
    rows = list(stream_table(written(tmp_path, name)))
    assert [row.values["text"] for row in rows] == TEXTS
    assert rows[-1].share == 1 and all(one.share <= other.share for one, other in itertools.pairwise(rows))
    if "txt" not in name:
        assert [int(row.values["number"]) for row in rows] == list(range(30))


def test_a_large_file_is_not_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text("text\n" + "a film\n" * 200_000, encoding="utf-8")
    rows = stream_table(path)
    assert next(rows).share < 0.1


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a\u2028b\rc\r\nd".encode())
    assert [row.values["text"] for row in stream_table(tmp_path / "a.txt")] == ["a\u2028b\rc", "d"]


def test_quotes_as_glue_has_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tnumber\nthe "film\t1\n"good" and\t2\n', encoding="utf-8")
    assert [row.values["text"] for row in stream_table(path)] == ['the "film', '"good" and']


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"text,n\nx,1\ny\n", "line 3: 1 fields"),
        ("a.csv", b"text,text\nx,1\n", "more than once"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: a JSON object"),
        ("a.jsonl", b'{"text": "a"\n', "line 1 is not JSON"),
        ("a.txt", b"a\n\xff\n", "not UTF-8: byte 0xff"),
        ("a.txt.gz", gzip.compress(b"a\n" * 999, mtime=0)[:-9], "not a whole gzip"),
        ("a.parquet", b"PAR", "not a parquet file"),
        ("a.docx", b"", "unknown kind"),
    ],
)
def test_what_cannot_be_read(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(stream_table(tmp_path / name))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_answers_are_those_of_predict_in_order(ending: str, adapter: Path, tmp_path: Path) -> None:
    wanted = predict(*load_classifier(adapter), TEXTS, precision="fp32")
    shares: list[float] = []
    done = predict_file(
        adapter,
        written(tmp_path, "a.csv"),
        tmp_path / "new" / f"out{ending}",
        precision="fp32",
        progress=lambda share, total, what: shares.append(share / total),
    )
    answers = read(tmp_path / "new" / f"out{ending}")
    assert (done.rows, done.resumed, done.precision) == (30, 0, "fp32")
    assert [list(one) for one in answers] == [["text", "label", "score"]] * 30
    for answer, one in zip(answers, wanted, strict=True):
        assert (answer["text"], answer["label"]) == (one["text"], one["label"])
        assert float(answer["score"]) == pytest.approx(one["score"], abs=1e-5)
    assert shares[-1] == 1 and shares == sorted(shares)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"out{ending}"]


class Killed(BaseException):
    """What ends the process at any moment."""


def test_what_was_interrupted_goes_on(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = written(tmp_path, "a.csv"), tmp_path / "out.jsonl"
    predict_file(adapter, source, tmp_path / "whole.jsonl", precision="fp32")
    target.write_text("what was there before")

    def after(count: int) -> Any:
        left = iter(range(count))

        def progress(*told: Any) -> None:
            if next(left, None) is None:
                raise Killed

        return progress

    monkeypatch.setattr(predicting, "Predictor", lambda *args, **kwargs: Predictor(*args, window=4, **kwargs))
    from adapterhub.inference import Predictor

    with pytest.raises(Killed):
        predict_file(adapter, source, target, precision="fp32", progress=after(9))
    assert target.read_text() == "what was there before"
    journal = tmp_path / ".out.jsonl.partial"
    with journal.open("ab") as file:
        file.write(b'{"text": "half a li')
    done = predict_file(adapter, source, target, precision="fp32")
    assert (done.rows, done.resumed) == (30, 10) and not journal.exists()
    for one, other in zip(read(target), read(tmp_path / "whole.jsonl"), strict=True):
        assert one["text"] == other["text"] and one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_the_journal_of_other_work_is_not_gone_on_with(adapter: Path, tmp_path: Path) -> None:
    source, target = written(tmp_path, "a.csv"), tmp_path / "out.csv"
    (tmp_path / ".out.csv.partial").write_text('{"source": "another"}\n{"text": "wrong"}\n')
    assert predict_file(adapter, source, target).resumed == 0
    assert [row["text"] for row in read(target)] == TEXTS


def test_columns(adapter: Path, backbone: Path, tmp_path: Path) -> None:
    path = tokens.write_csv(tmp_path / "a.csv", [{"what": "the film", "note": "x"}] * 2)
    with pytest.raises(DataError, match="no text column"):
        predict_file(adapter, path, tmp_path / "out.csv")
    predict_file(adapter, path, tmp_path / "out.csv", ["what"])
    assert [row["what"] for row in read(tmp_path / "out.csv")] == ["the film"] * 2
    with pytest.raises(DataError, match=r"trained on single texts.*has pairs"):
        predict_file(adapter, path, tmp_path / "other.csv", ["what", "note"])
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": "a"}\n{"other": "b"}\n')
    with pytest.raises(DataError, match="nothing in column 'text'"):
        predict_file(adapter, empty, tmp_path / "other.csv")


def test_other_heads(backbone: Path, tmp_path: Path) -> None:
    model = AutoAdapterModel.from_pretrained(backbone)
    model.add_adapter("a")
    rows = [{"question": "is it", "context": "the film is good"}, {"question": "was", "context": "the soup"}]
    source = tokens.write_csv(tmp_path / "questions.csv", rows)
    for head, names in {
        "question_answering": ["question", "context", "answer", "score", "start", "end"],
        "sentence_embedding": ["question", "embedding"],
        "tagging": ["question", "entities"],
    }.items():
        model.add_custom_head(head, "a", overwrite_ok=True)
        model.save_adapter(tmp_path / head, "a")
        for ending in predicting.OUTPUTS:
            target = tmp_path / f"{head}{ending}"
            columns = None if head == "question_answering" else ["question"]
            predict_file(tmp_path / head, source, target, columns, str(backbone))
            answers = read(target)
            assert list(answers[0]) == names and [one["question"] for one in answers] == ["is it", "was"]
            if head == "sentence_embedding":
                vector = answers[1]["embedding"]
                assert len(json.loads(vector) if ending == ".csv" else vector) == 32


def test_files_that_cannot_be(adapter: Path, tmp_path: Path) -> None:
    source = written(tmp_path, "a.csv")
    with pytest.raises(DataError, match=r"ends with \.csv, \.jsonl, \.parquet"):
        predict_file(adapter, source, tmp_path / "out.xlsx")
    with pytest.raises(DataError, match="there is no file"):
        predict_file(adapter, tmp_path / "nothing.csv", tmp_path / "out.csv")
    (tmp_path / "none.csv").write_text("text\n")
    with pytest.raises(DataError, match="is empty"):
        predict_file(adapter, tmp_path / "none.csv", tmp_path / "out.csv")
