"""Tables from files: CSV, TSV, JSON lines and parquet, read strictly; what is malformed is an error with its place."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.errors import DataError

TEXT_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
FORMATS = (*TEXT_FORMATS, ".parquet", *(f"{kind}.gz" for kind in TEXT_FORMATS))


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name, and where they come from.

    ``class_names`` holds, for columns that are declared as classes by their source, the names by id.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def table_format(path: Path) -> str | None:
    """The format of a file by the end of its name, such as ``".csv"`` or ``".csv.gz"``; None if it is no table."""
    return next((kind for kind in sorted(FORMATS, key=len, reverse=True) if path.name.lower().endswith(kind)), None)


def read_table(path: Path) -> Table:
    """Read one file.

    CSV is as RFC 4180 has it: quotes are doubled inside quotes, every row has as many fields as the header. TSV is read
    so too if all of it fits these rules, else with quotes as ordinary characters, as GLUE writes it. JSON is one object
    a line, or an array of objects. All values of CSV and TSV are strings; ``NA`` or ``null`` are texts like others.

    Raises:
        DataError: for a name with an unknown ending, and for a file that cannot be read, is not of its format, is
            not UTF-8, or holds no rows.
    """
    kind = table_format(path)
    if kind is None:
        raise DataError(f"{path}: unknown kind of file. Known are {', '.join(FORMATS)}.")
    kind = kind.removesuffix(".gz")
    try:
        table = _read_parquet(path) if kind == ".parquet" else _parse(kind, _read_text(path), str(path))
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}") from error
    if not len(table):
        raise DataError(f"{path} is empty: it holds no rows of data. Give a file with at least two labelled texts.")
    return table


def concatenate(tables: Sequence[Table]) -> Table:
    """One table of the rows of several, which must have the same columns.

    Raises:
        DataError: if the columns differ.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for table in tables[1:]:
        if set(table.columns) != set(first.columns):
            raise DataError(
                f"{table.where} has the columns {', '.join(table.columns)}, but {first.where}, which belongs to the "
                f"same split, has {', '.join(first.columns)}. Give all parts the same columns."
            )
    columns = {name: [value for table in tables for value in table.columns[name]] for name in first.columns}
    return Table(f"{first.where} and {len(tables) - 1} more", columns, first.class_names)


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is not a whole gzip file: {error}. Download or compress it again.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(
            f"{path} is not UTF-8: byte 0x{byte:02x} in line {line} cannot be decoded. Convert the file to UTF-8."
        ) from error


def _parse(kind: str, text: str, where: str) -> Table:
    if kind == ".csv":
        return _delimited(text, ",", csv.QUOTE_MINIMAL, where)
    if kind == ".tsv":
        try:
            return _delimited(text, "\t", csv.QUOTE_MINIMAL, where)
        except DataError:
            return _delimited(text, "\t", csv.QUOTE_NONE, where)
    return _json(text, where)


def _delimited(text: str, delimiter: str, quoting: Any, where: str) -> Table:
    header, *rows = records(io.StringIO(text, newline=""), delimiter, quoting, where)
    return Table(where, dict(zip(header, map(list, zip(*rows, strict=True)), strict=False)))


def records(lines: Iterable[str], delimiter: str, quoting: Any, where: str) -> Iterator[list[str]]:
    """The header of a CSV or TSV, and then its rows, one at a time; empty lines are none.

    Raises:
        DataError: for a row that has not as many fields as the header, quotes that do not fit, or a name that the
            header has twice.
    """
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(
                f"{where}: the header names {', '.join(map(repr, twice))} more than once. Rename one of them."
            )
        yield header
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(
                    f"{where}, line {reader.line_num}: {len(row)} fields, but the header has {len(header)} "
                    f"({', '.join(header)}). Put quotes around fields that contain the separator."
                )
            if row:
                yield row
    except csv.Error as error:
        raise DataError(
            f"{where}, line {reader.line_num}: {error}. Look for a quote that is not closed or not doubled."
        ) from error


def _json(text: str, where: str) -> Table:
    if text.lstrip().startswith("["):
        return _objects(enumerate(decode(text, where), 1), where, "element")
    lines = enumerate(text.split("\n"), 1)
    rows = ((number, decode(line, f"{where}, line {number}")) for number, line in lines if line.strip())
    return _objects(rows, where, "line")


def decode(text: str, place: str) -> Any:
    """A JSON text that stands at ``place``.

    Raises:
        DataError: if it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}. Write one JSON object a line, or one array of them.") from error


def _objects(rows: Iterable[tuple[int, Any]], where: str, unit: str) -> Table:
    objects: list[dict[str, Any]] = []
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{where}, {unit} {number}: a JSON object is needed; this is a {type(row).__name__}.")
        objects.append(row)
    names = dict.fromkeys(name for row in objects for name in row)
    return Table(where, {name: [row.get(name) for row in objects] for name in names})


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        table = pq.read_table(path)
        # Files from the Hub carry the names of their classes in the metadata of the schema.
        features = Features.from_arrow_schema(table.schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a parquet file that can be read: {error}") from error
    return Table(str(path), table.to_pydict(), class_names(features))


def class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The columns of a Hugging Face data set that are declared as classes, with the names of these by id."""
    return {name: tuple(feature.names) for name, feature in features.items() if getattr(feature, "names", None)}
