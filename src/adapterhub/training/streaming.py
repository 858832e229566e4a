"""Tables read one row at a time, so that their size does not matter: text, CSV, TSV, JSON lines and parquet."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from adapterhub.errors import DataError
from adapterhub.training.tables import FORMATS, decode, read_table, records, table_format

TEXT = ".txt"


class StreamedRow(NamedTuple):
    """A row by the names of its columns, and what share of the file was read by then."""

    values: dict[str, Any]
    share: float


def stream_table(path: Path) -> Iterator[StreamedRow]:
    """The rows of a file, in order. A ``.txt`` (or ``.txt.gz``) has one column, ``text``, and a row a line.

    Other formats are as ``read_table`` has them. Empty lines of a text are no rows.

    Raises:
        DataError: for a file that cannot be read, is not of its format or not UTF-8, at the row where that shows.
    """
    kind = _format(path)
    try:
        if kind == ".parquet":
            yield from _parquet(path)
        elif kind == ".json":  # an array cannot be told from its parts
            table = read_table(path)
            for index, row in enumerate(zip(*table.columns.values(), strict=True), 1):
                yield StreamedRow(dict(zip(table.columns, row, strict=True)), index / len(table))
        else:
            yield from _lines(path, kind)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} cannot be decoded. Convert the file to UTF-8."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}. Download or compress it again.") from error
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}") from error


def _format(path: Path) -> str:
    name = path.name.lower()
    if name.removesuffix(".gz").endswith(TEXT):
        return TEXT
    kind = table_format(path)
    if kind is None:
        raise DataError(f"{path}: unknown kind of file. Known are {TEXT}, {', '.join(FORMATS)}.")
    return kind.removesuffix(".gz")


def _lines(path: Path, kind: str) -> Iterator[StreamedRow]:
    size = path.stat().st_size
    plain_quotes = kind == ".tsv" and not _quotes_fit(path)
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        lines = stack.enter_context(_text(raw, path, "" if kind in (".csv", ".tsv") else "\n"))
        if kind == TEXT:
            rows: Iterable[dict[str, Any]] = ({"text": line.rstrip("\r\n")} for line in lines if line.strip())
        elif kind in (".csv", ".tsv"):
            rows = _delimited(lines, kind, plain_quotes, str(path))
        else:
            rows = _objects(lines, str(path))
        for row in rows:
            yield StreamedRow(row, raw.tell() / size)


def _text(raw: Any, path: Path, newline: str) -> io.TextIOWrapper:
    packed = path.name.lower().endswith(".gz")
    return io.TextIOWrapper(gzip.GzipFile(fileobj=raw) if packed else raw, encoding="utf-8-sig", newline=newline)


def _delimited(lines: Iterable[str], kind: str, plain_quotes: bool, where: str) -> Iterator[dict[str, Any]]:
    quoting = csv.QUOTE_NONE if plain_quotes else csv.QUOTE_MINIMAL
    found = records(lines, "," if kind == ".csv" else "\t", quoting, where)
    header = next(found)
    for record in found:
        yield dict(zip(header, record, strict=True))


def _quotes_fit(path: Path) -> bool:
    """Whether all of a TSV is as RFC 4180 has it; GLUE writes quotes as ordinary characters."""
    with path.open("rb") as raw, _text(raw, path, "") as lines:
        try:
            for _ in records(lines, "\t", csv.QUOTE_MINIMAL, str(path)):
                pass
        except DataError:
            return False
    return True


def _objects(lines: Iterable[str], where: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = decode(line, f"{where}, line {number}")
            if not isinstance(row, dict):
                raise DataError(f"{where}, line {number}: a JSON object is needed; this is a {type(row).__name__}.")
            yield row


def _parquet(path: Path) -> Iterator[StreamedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            total, done = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    done += 1
                    yield StreamedRow(row, done / total)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a parquet file that can be read: {error}") from error
