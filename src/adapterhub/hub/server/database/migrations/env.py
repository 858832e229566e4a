"""What Alembic runs: the migrations on the engine that it was given, one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, text

from adapterhub.hub.server.database import triggers
from adapterhub.hub.server.database.tables import Base
from adapterhub.hub.server.database.tables.base import UtcDateTime

_LOCK = 0x6164617074  # of PostgreSQL, while tables change; SQLite has its lock from the start of a transaction


def _plainly(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """A migration names no type of ours, which may change after it."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether a table is one of those that are written down; that of words differs between the databases."""
    return kind != "table" or not str(name).startswith("words")


@contextmanager
def _unchecked(connection: Connection) -> Iterator[None]:
    """Let a table of SQLite be made anew, as Alembic changes one, without taking along the rows that refer to it."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection  # outside of the transaction, in which it has no effect
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


with context.config.attributes["engine"].connect() as plain, _unchecked(plain):
    connection = plain.execution_options(adapterhub_write=True)
    with connection.begin():
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=is_sqlite,
            render_item=_plainly,
            include_name=_is_ours,
        )
        with context.begin_transaction():
            context.run_migrations()
            triggers.make(connection)
            if is_sqlite and (broken := connection.execute(text("PRAGMA foreign_key_check")).all()):
                raise RuntimeError(f"the migrations leave rows that refer to none: {broken[:5]}")
