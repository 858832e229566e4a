"""Rows that are put in if they are not there, in one statement: two who do so at once do not disturb each other."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from adapterhub.hub.server.database.tables import Base


def add_new(session: Session, table: type[Base], **values: Any) -> bool:
    """Add a row unless one of its key is there; whether it was added."""
    statement = _insert(session, table).values(**values).on_conflict_do_nothing()
    key = table.__table__.primary_key  # PostgreSQL counts no rows, but gives those that were added
    return session.execute(statement.returning(*key)).first() is not None


def put(session: Session, table: type[Base], key: dict[str, Any], **values: Any) -> None:
    """Add a row, or give the one of this key these values."""
    statement = _insert(session, table).values(**key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def count_up(session: Session, table: type[Base], key: dict[str, Any], by: int) -> None:
    """Add to the ``count`` of a row, which begins at 0."""
    statement = _insert(session, table).values(**key, count=by)
    column = table.__table__.c.count
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_={"count": column + by}))


def _insert(session: Session, table: type[Base]) -> Any:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
