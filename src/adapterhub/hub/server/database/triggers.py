"""What notes which adapters have changed, whoever changes them; made anew after every migration.

SQLite forgets the triggers of a table that a migration makes anew.
"""

from sqlalchemy import Connection, inspect, text

# What of a repository is in the catalogue and not in its adapter's row.
_OF_REPOSITORY = "private, withdrawn, owner_id, downloads, likes, updated"
# Tables, what happens to them, and where the id of the repository then is.
_WATCHED = (
    ("adapter", "INSERT", "NEW.repository_id"),
    ("adapter", "UPDATE", "NEW.repository_id"),
    ("adapter", "DELETE", "OLD.repository_id"),
    ("repository", f"UPDATE OF {_OF_REPOSITORY}", "NEW.id"),
)


def make(connection: Connection) -> None:
    """Make the triggers that write the table ``change``, as soon as there is one."""
    if not inspect(connection).has_table("change"):
        return
    for table, event, row in _WATCHED:
        name = f"{table}_{event.split()[0].lower()}_noted"
        if connection.dialect.name == "sqlite":
            number = "(SELECT coalesce(max(number), 0) + 1 FROM change)"
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
            connection.execute(text(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {_note(row, number)}; END"))
            continue
        number = "pg_current_xact_id()::text::bigint"
        body = f"BEGIN {_note(row, number)}; RETURN NULL; END"
        function = f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"
        connection.exec_driver_sql(function)
        watch = f"CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
        connection.exec_driver_sql(watch)


def _note(row: str, number: str) -> str:
    return (
        f"INSERT INTO change(repository_id, number) VALUES ({row}, {number}) "
        "ON CONFLICT(repository_id) DO UPDATE SET number = excluded.number"
    )
