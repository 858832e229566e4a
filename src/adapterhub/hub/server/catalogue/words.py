"""Words of texts, found again by each of them or by how it begins: FTS5 of SQLite, or a ``tsvector`` of PostgreSQL.

Both get the same words, made here, so that both find the same.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

Ids = NDArray[np.int64]

_LONGEST = 64  # letters of a word
_MOST_ASKED = 12  # words of a question
_MOST_KEPT = 4000  # words of one text
_FOUND = "ids by words"  # of a session


class Texts(NamedTuple):
    """What an adapter is found by: its names and place in the catalogue first, then all else that is said of it."""

    topic: str
    content: str


def put(session: Session, repository_id: int, texts: Texts) -> None:
    """Let a repository be found by these texts, and by no others."""
    forget(session, repository_id)
    put_all(session, [(repository_id, texts)])


def put_all(session: Session, rows: Iterable[tuple[int, Texts]]) -> None:
    """``put`` for many repositories that have no words yet."""
    session.info.pop(_FOUND, None)
    values = [{"id": id, **_written(session, texts)} for id, texts in rows]
    marks = ":topic, :content" if _is_sqlite(session) else "CAST(:topic AS tsvector), CAST(:content AS tsvector)"
    if values:
        session.execute(text(f"INSERT INTO words({_key(session)}, topic, content) VALUES (:id, {marks})"), values)


def all_rows(session: Session) -> Iterator[tuple[int, Texts]]:
    """What every repository is found by, the same from both databases; ``put_all`` takes it."""
    plain = "{}" if _is_sqlite(session) else "array_to_string(tsvector_to_array({}), ' ')"
    texts = ", ".join(plain.format(name) for name in Texts._fields)
    for number, *written in session.execute(text(f"SELECT {_key(session)}, {texts} FROM words ORDER BY 1")):
        yield number, Texts(*written)


def forget_all(session: Session) -> None:
    """Let nothing be found any more."""
    session.info.pop(_FOUND, None)
    session.execute(text("DELETE FROM words"))


def forget(session: Session, repository_id: int) -> None:
    """Let a repository be found no more."""
    session.info.pop(_FOUND, None)
    session.execute(text(f"DELETE FROM words WHERE {_key(session)} = :id"), {"id": repository_id})


def find(session: Session, asked: str, *, in_topic: bool = False) -> Ids | None:
    """The ids of the repositories that have all words that were asked for; None if nothing was asked.

    The last word may be the beginning of one: somebody may still be typing. A page asks more than once for the same,
    for its list and for the counts beside it: a session that changes nothing finds it once.

    Args:
        in_topic: whether they have to have them in the topic.
    """
    words = split(asked)[:_MOST_ASKED]
    if not words:
        return None
    unfinished = not asked[-1:].isspace()
    kept = session.info.setdefault(_FOUND, {})
    if (key := (*words, unfinished, in_topic)) not in kept:
        kept[key] = _found(session, words, unfinished, in_topic)
    found: Ids = kept[key]
    return found


def _found(session: Session, words: list[str], unfinished: bool, in_topic: bool) -> Ids:
    # One text for all ids is many times faster to fetch than a row for each.
    if _is_sqlite(session):
        question = "(" + " ".join(f'"{word}"' for word in words) + (" *)" if unfinished else ")")
        question = f"topic : {question}" if in_topic else question
        statement = "SELECT group_concat(rowid, ' ') FROM words WHERE words MATCH :question"
    else:
        question = " & ".join(f"'{word}'" for word in words) + (":*" if unfinished else "")
        column = "topic" if in_topic else "content"
        ids = "string_agg(repository_id::text, ' ')"
        statement = f"SELECT {ids} FROM words WHERE {column} @@ CAST(:question AS tsquery)"
    found = session.scalar(text(statement), {"question": question})
    return np.fromstring(found or "", np.int64, sep=" ")


def split(written: str) -> list[str]:
    """The words of a text, in small letters without accents; each once, in order."""
    letters = []
    for letter in unicodedata.normalize("NFKD", written.casefold()):
        kind = unicodedata.category(letter)[0]
        if kind != "M":  # accents and the like
            letters.append(letter if kind in "LN" else " ")
    return list(dict.fromkeys(word[:_LONGEST] for word in "".join(letters).split()))


def _written(session: Session, texts: Texts) -> dict[str, str]:
    """Both texts as the database takes them; those of the topic are in the content too."""
    topic = split(texts.topic)[:_MOST_KEPT]
    content = list(dict.fromkeys([*topic, *split(texts.content)[:_MOST_KEPT]]))
    if _is_sqlite(session):
        return {"topic": " ".join(topic), "content": " ".join(content)}
    return {"topic": " ".join(f"'{word}'" for word in topic), "content": " ".join(f"'{word}'" for word in content)}


def _key(session: Session) -> str:
    return "rowid" if _is_sqlite(session) else "repository_id"


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
