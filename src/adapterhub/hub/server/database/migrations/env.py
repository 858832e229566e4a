"""What Alembic runs: the migrations on the engine that it was given, one process at a time."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import text

from adapterhub.hub.server.database.tables import Base
from adapterhub.hub.server.database.tables.base import UtcDateTime

_LOCK = 0x6164617074  # of PostgreSQL, while tables change; SQLite has its lock from the start of a transaction


def _plainly(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """A migration names no type of ours, which may change after it."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether a table is one of those that are written down; that of words differs between the databases."""
    return kind != "table" or not str(name).startswith("words")


with (
    context.config.attributes["engine"].connect() as plain,
    plain.execution_options(adapterhub_write=True) as connection,
    connection.begin(),
):
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=_plainly,
        include_name=_is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()
