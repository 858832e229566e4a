"""Words of texts, found again by each of them or by how it begins: FTS5 of SQLite, or a ``tsvector`` of PostgreSQL.

Both get the same words, made here, so that both find the same.
"""

import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, cast, column, func, literal, literal_column, select, table, text
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

_LONGEST = 64  # letters of a word
_MOST_ASKED = 12  # words of a question
_MOST_KEPT = 4000  # words of one text
# How much a word counts by where it stands: in the name, the topic, the summary, the card.
_WEIGHTS = (8.0, 4.0, 2.0, 1.0)
_LETTERS = "ABCD"  # of PostgreSQL, for the same places

_TABLE = table("words", column("rowid"), column("repository_id"), column("words"))


class Texts(NamedTuple):
    """What an adapter is found by, the most telling first."""

    name: str
    topic: str
    summary: str
    card: str


def put(session: Session, repository_id: int, texts: Texts) -> None:
    """Let a repository be found by these texts, and by no others; a word counts where it tells most."""
    forget(session, repository_id)
    session.execute(_insert(session), _row(session, repository_id, texts))


def put_all(session: Session, rows: Iterable[tuple[int, Texts]]) -> None:
    """``put`` for many repositories that have no words yet."""
    if values := [_row(session, repository_id, texts) for repository_id, texts in rows]:
        session.execute(_insert(session), values)


def forget(session: Session, repository_id: int) -> None:
    """Let a repository be found no more."""
    key = "rowid" if _is_sqlite(session) else "repository_id"
    session.execute(text(f"DELETE FROM words WHERE {key} = :id"), {"id": repository_id})


def matching(session: Session, asked: str) -> Select[Any] | None:
    """Ids of repositories that have all words that were asked for, and the ``relevance`` of each; None without words.

    The last word may be the beginning of one: somebody may still be typing.
    """
    words = split(asked)[:_MOST_ASKED]
    if not words:
        return None
    if _is_sqlite(session):
        question = " ".join(f'"{word}"' for word in words) + ("" if asked[-1:].isspace() else " *")
        weights = ", ".join(map(str, _WEIGHTS))
        relevance: ColumnElement[Any] = literal_column(f"-bm25(words, {weights})").label("relevance")
        matches = literal_column("words").op("MATCH")(question)
        return select(_TABLE.c.rowid.label("id"), relevance).where(matches)
    question = " & ".join(f"'{word}'" for word in words) + ("" if asked[-1:].isspace() else ":*")
    query = cast(literal(question), TSQUERY)
    relevance = func.ts_rank(
        literal_column(f"'{{{', '.join(map(str, reversed(_WEIGHTS)))}}}'::float4[]"), _TABLE.c.words, query
    )
    matches = _TABLE.c.words.op("@@")(query)
    return select(_TABLE.c.repository_id.label("id"), relevance.label("relevance")).where(matches)


def split(written: str) -> list[str]:
    """The words of a text, in small letters without accents; each once, in order."""
    plain = unicodedata.normalize("NFKD", written.casefold())
    kept = "".join(letter if unicodedata.category(letter)[0] in "LN" else " " for letter in plain if _stays(letter))
    return list(dict.fromkeys(word[:_LONGEST] for word in kept.split()))


def _stays(letter: str) -> bool:
    return not unicodedata.category(letter).startswith("M")


def _row(session: Session, repository_id: int, texts: Texts) -> dict[str, Any]:
    seen, places = set[str](), list[list[str]]()
    for written in texts:
        new = [word for word in split(written)[:_MOST_KEPT] if word not in seen]
        seen.update(new)
        places.append(new)
    if _is_sqlite(session):
        return {"id": repository_id} | {name: " ".join(new) for name, new in zip(Texts._fields, places, strict=True)}
    vector = " ".join(f"'{word}':1{letter}" for letter, new in zip(_LETTERS, places, strict=True) for word in new)
    return {"id": repository_id, "words": vector}


def _insert(session: Session) -> Any:
    if _is_sqlite(session):
        names = ", ".join(Texts._fields)
        return text(
            f"INSERT INTO words(rowid, {names}) VALUES (:id, {', '.join(f':{name}' for name in Texts._fields)})"
        )
    return text("INSERT INTO words(repository_id, words) VALUES (:id, CAST(:words AS tsvector))")


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
