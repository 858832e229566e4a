"""Tables as lines of JSON, the same for SQLite and PostgreSQL: what was written from one is read into the other."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Connection, Date, DateTime, LargeBinary, Table, bindparam, func, select, text
from sqlalchemy.orm import Session

from adapterhub.hub.server.catalogue import words
from adapterhub.hub.server.catalogue.words import Texts

_AT_ONCE = 500


def dump(session: Session, table: Table, path: Path, wanted: Callable[[Any], bool]) -> tuple[int, str]:
    """Write the wanted rows of a table into a new file; returns their number and the SHA-256 of the file."""
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_AT_ONCE)
    found = (row for row in session.execute(query) if wanted(row))
    return _write(path, ({name: _plain(value) for name, value in row._mapping.items()} for row in found))


def dump_words(session: Session, path: Path) -> tuple[int, str]:
    """``dump`` for the words that adapters are found by, which the databases keep each in its own way."""
    return _write(path, ({"id": number, **texts._asdict()} for number, texts in words.all_rows(session)))


def load_words(session: Session, path: Path) -> None:
    """Put the words of a file in the place of those that are there."""
    words.forget_all(session)
    for batch in _lines(path):
        words.put_all(session, ((row.pop("id"), Texts(**row)) for row in batch))


def load(connection: Connection, table: Table, path: Path) -> None:
    """Put the rows of a file into an empty table."""
    later = [column for column in table.columns if any(key.column.table is table for key in column.foreign_keys)]
    types = {column.name: column for column in table.columns}
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type = JSON(none_as_null=True)
    for values in _batches(path, types):
        first = [row | dict.fromkeys([column.name for column in later]) for row in values]
        connection.execute(table.insert(), first)
    for column in later:  # rows that refer to rows of the same table do so when all are there
        _refer(connection, table, column, path, types)
    if connection.dialect.name == "postgresql":
        _count_on(connection, table)


def _refer(
    connection: Connection, table: Table, column: Column[Any], path: Path, types: dict[str, Column[Any]]
) -> None:
    (key,) = table.primary_key
    statement = table.update().where(key == bindparam("its_key")).values({column.name: bindparam("its_value")})
    for values in _batches(path, types):
        referring = [
            {"its_key": row[key.name], "its_value": row[column.name]} for row in values if row[column.name] is not None
        ]
        if referring:
            connection.execute(statement, referring)


def _count_on(connection: Connection, table: Table) -> None:
    """Have the numbers of new rows begin after those that are there."""
    for column in table.primary_key:
        name = {"table": f'"{table.name}"', "column": column.name}
        if sequence := connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), name).scalar():
            last = connection.execute(select(func.max(column))).scalar()
            connection.execute(select(func.setval(sequence, last or 1, last is not None)))


def _batches(path: Path, types: dict[str, Column[Any]]) -> Iterator[list[dict[str, Any]]]:
    for rows in _lines(path):
        yield [{name: _typed(value, types[name]) for name, value in row.items()} for row in rows]


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> tuple[int, str]:
    number, digest = 0, hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for row in rows:
            line = json.dumps(row, sort_keys=True).encode() + b"\n"
            digest.update(line)
            file.write(line)
            number += 1
        file.flush()
        os.fsync(file.fileno())
    return number, digest.hexdigest()


def _lines(path: Path) -> Iterator[list[dict[str, Any]]]:
    with path.open("rb") as file:
        while batch := [json.loads(line) for line in islice(file, _AT_ONCE)]:
            yield batch


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _typed(value: Any, column: Column[Any]) -> Any:
    if value is None or isinstance(column.type, JSON):
        return value
    if isinstance(column.type, DateTime):
        return datetime.fromisoformat(value)
    if isinstance(column.type, Date):
        return date.fromisoformat(value)
    return base64.b64decode(value) if isinstance(column.type, LargeBinary) else value
