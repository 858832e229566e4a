"""The table of words, by hand: it differs between the databases."""

from alembic import op

revision = "s002"
down_revision = "s001"


def upgrade() -> None:
    """To this form."""
    if op.get_bind().dialect.name == "sqlite":
        options = "tokenize='unicode61 remove_diacritics 0', prefix='1 2 3', detail='column'"
        op.execute(f"CREATE VIRTUAL TABLE words USING fts5(name, topic, summary, card, {options})")
    else:
        op.execute("CREATE TABLE words (repository_id INTEGER PRIMARY KEY, words TSVECTOR NOT NULL)")
        op.execute("CREATE INDEX ix_words_words ON words USING gin (words)")


def downgrade() -> None:
    """Back to the one before."""
    op.execute("DROP TABLE words")
