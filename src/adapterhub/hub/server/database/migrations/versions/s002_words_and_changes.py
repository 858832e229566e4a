"""Words to search, and notes of what changed; by hand, since they differ between the databases."""

from alembic import op

revision = "s002"
down_revision = "s001"

# What of a repository is not told by its adapter's row, and is in the catalogue all the same.
_OF_REPOSITORY = "private, owner_id, downloads, likes, updated"


def upgrade() -> None:
    """To this form."""
    if op.get_bind().dialect.name == "sqlite":
        options = "tokenize='unicode61 remove_diacritics 0', prefix='1 2 3', detail='column', columnsize=0"
        op.execute(f"CREATE VIRTUAL TABLE words USING fts5(topic, content, {options})")
        for table, event, row in _watched():
            op.execute(
                f"CREATE TRIGGER {_name(table, event)} AFTER {event} ON {table} BEGIN "
                "INSERT INTO change(repository_id, number) "
                f"VALUES ({row}, (SELECT coalesce(max(number), 0) + 1 FROM change)) "
                "ON CONFLICT(repository_id) DO UPDATE SET number = excluded.number; END"
            )
        return
    op.execute(
        "CREATE TABLE words (repository_id INTEGER PRIMARY KEY, topic TSVECTOR NOT NULL, content TSVECTOR NOT NULL)"
    )
    op.execute("CREATE INDEX ix_words_topic ON words USING gin (topic)")
    op.execute("CREATE INDEX ix_words_content ON words USING gin (content)")
    for table, event, row in _watched():
        name = _name(table, event)
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO change(repository_id, number) "
            f"VALUES ({row}, pg_current_xact_id()::text::bigint) "
            "ON CONFLICT(repository_id) DO UPDATE SET number = excluded.number; RETURN NULL; END $$"
        )
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")


def downgrade() -> None:
    """Back to the one before."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table, event, _ in _watched():
        name = _name(table, event)
        op.execute(f"DROP TRIGGER {name}" if is_sqlite else f"DROP TRIGGER {name} ON {table}")
        if not is_sqlite:
            op.execute(f"DROP FUNCTION {name}")
    op.execute("DROP TABLE words")


def _watched() -> list[tuple[str, str, str]]:
    """Tables, what happens to them, and where the id of the repository then is."""
    return [
        ("adapter", "INSERT", "NEW.repository_id"),
        ("adapter", "UPDATE", "NEW.repository_id"),
        ("adapter", "DELETE", "OLD.repository_id"),
        ("repository", f"UPDATE OF {_OF_REPOSITORY}", "NEW.id"),
    ]


def _name(table: str, event: str) -> str:
    return f"{table}_{event.split()[0].lower()}_noted"
