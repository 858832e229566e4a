"""Words to search; by hand, since the table differs between the databases."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """To this form."""
    if op.get_bind().dialect.name == "sqlite":
        options = "tokenize='unicode61 remove_diacritics 0', prefix='1 2 3', detail='column', columnsize=0"
        op.execute(f"CREATE VIRTUAL TABLE words USING fts5(topic, content, {options})")
        return
    columns = "repository_id INTEGER PRIMARY KEY, topic TSVECTOR NOT NULL, content TSVECTOR NOT NULL"
    op.execute(f"CREATE TABLE words ({columns})")
    op.execute("CREATE INDEX ix_words_topic ON words USING gin (topic)")
    op.execute("CREATE INDEX ix_words_content ON words USING gin (content)")


def downgrade() -> None:
    """Back to the one before."""
    op.execute("DROP TABLE words")
