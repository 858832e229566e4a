"""A file of texts in, a file of answers out: with little memory, resumable, and whole or not there.

What is done is kept in a journal beside the output, ``.NAME.partial``: a line on what is being done, then a line of
JSON for each row. The same call goes on where the journal ends. The output appears when all of it is there.
"""

import csv
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from adapterhub.checkpoints import ADAPTER_MANIFEST
from adapterhub.errors import DataError
from adapterhub.files import make_folder, sha256_of, sync_folder
from adapterhub.inference import Predictor
from adapterhub.inference.batching import windows
from adapterhub.inference.precision import Precision
from adapterhub.training.classifier import is_for_pairs, load_trained, plain
from adapterhub.training.columns import find_text_columns
from adapterhub.training.progress import Progress
from adapterhub.training.streaming import StreamedRow, stream_table
from adapterhub.training.tables import Table

OUTPUTS = (".csv", ".jsonl", ".parquet")
_AT_A_TIME = 1024


@dataclass(frozen=True)
class Predicted:
    """What a file of answers holds: its rows, and how many of them were there from a run before."""

    rows: int
    resumed: int
    precision: str | None


def predict_file(
    adapter: Path,
    source: Path,
    target: Path,
    text_column: Sequence[str] | None = None,
    model: str | None = None,
    *,
    precision: Precision = "auto",
    token_budget: int | None = None,
    progress: Progress | None = None,
) -> Predicted:
    """Predict for every row of a table (as ``stream_table`` reads it), and write texts and answers in the same order.

    Args:
        adapter: the folder of a saved adapter with its head.
        source: the table.
        target: a ``.csv``, ``.jsonl`` or ``.parquet`` file, replaced in one step at the end.
        text_column: the columns that the head is asked about, in order; by default ``question`` and ``context``,
            ``prompt`` and ``choices``, or the usual names of texts.
        model: another base model than the one that the adapter names.
        precision: as of ``Predictor``.
        token_budget: as of ``Predictor``.
        progress: is told what share of the source is done.

    Raises:
        CheckpointError, BackboneError: as ``load_trained``.
        DataError: if the source cannot be read, has not the columns, or holds what the head cannot take; what was done
            by then is kept.
        OSError: if the target cannot be written.
    """
    if target.suffix not in OUTPUTS:
        raise DataError(f"{target}: answers are written to a file that ends with {', '.join(OUTPUTS)}")
    if not source.is_file():
        raise DataError(f"there is no file {source}. Check the path; relative ones start at {Path.cwd()}.")
    loaded, tokenizer = load_trained(adapter, model)
    predictor = Predictor(loaded, tokenizer, precision=precision, token_budget=token_budget)
    digests = {"source": sha256_of(source), "adapter": sha256_of(adapter / ADAPTER_MANIFEST)}
    about = {**digests, "model": model, "columns": text_column, "precision": predictor.precision}
    make_folder(target.parent)
    journal = target.with_name(f".{target.name}.partial")
    resumed = _begin(journal, json.dumps(about))
    items = _Items(predictor.task.columns, source, text_column, is_for_pairs(adapter))
    read: deque[StreamedRow] = deque()
    count = resumed
    with journal.open("a", encoding="utf-8") as file:
        rows = islice(stream_table(source), resumed, None)
        for answer in predictor(items.of(row, read) for row in rows):
            row = read.popleft()
            file.write(json.dumps({**items.texts(row), **plain(answer)}, ensure_ascii=False) + "\n")
            count += 1
            if progress is not None:
                progress(row.share, 1, "rows")
    if not count:
        raise DataError(f"{source} is empty: it holds no rows")
    _finish(journal, target)
    return Predicted(count, resumed, predictor.precision)


class _Items:
    """What the task is asked for each row; the columns are found in the first one."""

    def __init__(self, asked: tuple[str, ...], source: Path, wanted: Sequence[str] | None, pairs: bool | None) -> None:
        self.asked, self.source, self.wanted, self.pairs = asked, source, wanted, pairs
        self.names: tuple[str, ...] = ()

    def of(self, row: StreamedRow, read: deque[StreamedRow]) -> Any:
        """The item of a row, which is noted as read."""
        if not self.names:
            self.names = self._found(row.values)
        read.append(row)
        if missing := [name for name in self.names if row.values.get(name) is None]:
            raise DataError(f"{self.source}: a row has nothing in column {missing[0]!r}: {str(row.values)[:80]}")
        given = [row.values[name] for name in self.names]
        if len(self.asked) == 1:
            return given[0] if len(given) == 1 else tuple(given)
        return dict(zip(self.asked, given, strict=True))

    def texts(self, row: StreamedRow) -> dict[str, Any]:
        """What of a row is written beside its answer."""
        return {name: row.values[name] for name in self.names}

    def _found(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        table = Table(str(self.source), dict.fromkeys(row, ()))
        if len(self.asked) > 1:
            names, _ = find_text_columns(table, self.wanted or self.asked)
            if len(names) != len(self.asked):
                raise DataError(f"{self.source}: columns for {' and '.join(self.asked)} are needed, in this order")
            return names
        names, pair = find_text_columns(table, self.wanted)
        if self.pairs is not None and pair != self.pairs:
            kinds = ("single texts", "pairs of texts")
            raise DataError(
                f"the adapter was trained on {kinds[self.pairs]}, and {self.source} has {kinds[pair]} "
                f"({', '.join(names)}): name the columns by text_column"
            )
        return names


def _begin(journal: Path, about: str) -> int:
    """Have a journal of this work, with whole lines alone; the number of rows that are in it."""
    if journal.exists():
        with journal.open("rb+") as file:
            if file.readline().decode(errors="replace").rstrip("\n") == about:
                count, end = 0, file.tell()
                for line in file:
                    if line.endswith(b"\n"):
                        count, end = count + 1, end + len(line)
                file.truncate(end)
                return count
    journal.write_text(about + "\n", encoding="utf-8")
    return 0


def _finish(journal: Path, target: Path) -> None:
    """Put what the journal holds in the place of the target, in the target's format."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        write = {".csv": _write_csv, ".jsonl": _write_lines, ".parquet": _write_parquet}[target.suffix]
        write(journal, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    journal.unlink()
    sync_folder(target.parent)


def _answers(journal: Path) -> Iterator[dict[str, Any]]:
    with journal.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            yield json.loads(line)


def _write_lines(journal: Path, path: Path) -> None:
    with journal.open(encoding="utf-8") as file, path.open("w", encoding="utf-8") as out:
        next(file)
        out.writelines(file)


def _write_csv(journal: Path, path: Path) -> None:
    answers = _answers(journal)
    first = next(answers)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(_cells(answer) for answer in chain((first,), answers))


def _cells(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What has parts of its own is written as JSON."""
    return {name: json.dumps(one) if isinstance(one, dict | list) else one for name, one in answer.items()}


def _write_parquet(journal: Path, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([])
    for part in windows(_answers(journal), _AT_A_TIME):  # a list that is empty in one part shows its type in another
        schema = pa.unify_schemas([schema, pa.Table.from_pylist(part).schema], promote_options="permissive")
    with pq.ParquetWriter(path, schema) as writer:
        for part in windows(_answers(journal), _AT_A_TIME):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
