"""What all adapters are narrowed, counted and sorted by, as columns in memory.

Each process has a copy for itself and brings it up to date before each look: triggers of the database note which
repositories have changed, so that whoever changes a row, in whatever way, is seen by all. The rows themselves, and who
may see them, are asked of the database.
"""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Select, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Adapter, Database, Repository

_LOG = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
Numbers = NDArray[Any]

NAMES = ("kind", "format", "method", "language", "license", "head")  # texts, of which there are few
_SOURCES: dict[str, tuple[Any, type[np.generic]]] = {
    "task": (func.coalesce(Adapter.task_id, 0), np.int32),
    "dataset": (func.coalesce(Adapter.dataset_id, 0), np.int32),
    "base": (func.coalesce(Adapter.base_id, 0), np.int32),
    "owner": (Repository.owner_id, np.int32),
    "private": (Repository.private, np.bool_),
    "withdrawn": (Repository.withdrawn.is_not(None), np.bool_),
    "verified": (Adapter.verified, np.bool_),
    "size": (Adapter.size, np.int64),
    "downloads": (Repository.downloads, np.int64),
    "likes": (Repository.likes, np.int64),
    "updated": (Repository.updated, np.float64),
    "created": (Repository.created, np.float64),
    "merit": (func.coalesce(Adapter.merit, -np.inf), np.float64),
}
_SOURCES |= {name: (getattr(Adapter, name), np.int32) for name in NAMES}
_CHUNK = 5000  # changed rows that are read at once; of more, all are read anew


@dataclass(frozen=True)
class Columns:
    """The columns of all adapters as they were at a time: ``columns["task"][place]`` is of the adapter ``ids[place]``.

    Attributes:
        ids: of the repositories; a place whose adapter is gone is not ``alive`` any more.
        place: by id the place, or -1.
        codes: what stands for a text in the columns of ``NAMES``. None, and "", is 0 in every column.
    """

    ids: Numbers
    alive: Mask
    place: Numbers
    columns: Mapping[str, Numbers]
    codes: Mapping[str, dict[str, int]]

    @classmethod
    def empty(cls) -> Self:
        """Of no adapter."""
        columns = {name: np.zeros(0, kind) for name, (_, kind) in _SOURCES.items()}
        nothing = np.zeros(0, np.int64)
        return cls(nothing, np.zeros(0, np.bool_), nothing, columns, {name: {"": 0} for name in NAMES})

    def __getitem__(self, name: str) -> Numbers:
        return self.columns[name]

    def mask(self, ids: Numbers) -> Mask:
        """Which places are of these adapters."""
        wanted = ids.astype(np.int64)
        places = self.place[wanted[wanted < len(self.place)]]
        found = np.zeros(len(self.ids), np.bool_)
        found[places[places >= 0]] = True
        return found

    def without(self, ids: Collection[int]) -> Self:
        """Those that are left when some are gone."""
        gone, place = self.mask(np.array(list(ids))), self.place.copy()
        place[self.ids[gone]] = -1
        return replace(self, alive=self.alive & ~gone, place=place)

    def put(self, rows: Sequence[Any]) -> Self:
        """With these rows in the place of those before, or added."""
        if not rows:
            return self
        ids, *values = (list(column) for column in zip(*rows, strict=True))
        place = np.concatenate([self.place, np.full(max(0, max(ids) + 1 - len(self.place)), -1)])
        new = [one for one in ids if place[one] < 0]
        place[new] = np.arange(len(self.ids), len(self.ids) + len(new))
        places = place[ids]
        columns = {
            name: _with(self[name], len(new), places, self._encoded(name, column))
            for name, column in zip(_SOURCES, values, strict=True)
        }
        all_ids = np.concatenate([self.ids, np.array(new, np.int64)])
        return replace(self, ids=all_ids, alive=_with(self.alive, len(new), places, True), place=place, columns=columns)

    def _encoded(self, name: str, values: list[Any]) -> list[Any]:
        if name in NAMES:
            codes = self.codes[name]
            return [codes.setdefault(value, len(codes)) for value in values]
        return [value.timestamp() for value in values] if name in ("updated", "created") else values


class _Kept:
    """The newest columns of a database, and from which change on they are to be looked at again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.columns = Columns.empty()
        self.since: int | None = None

    def newest(self, engine: Engine) -> Columns:
        """Bring the columns up to date, by a connection of their own: they hold what was committed, and no more."""
        with self.lock, engine.connect() as connection:
            later, changed = _look(connection, self.since or 0)
            if self.since is None or len(changed) > _CHUNK:
                self.columns = Columns.empty().put(connection.execute(_rows()).all())
            elif changed:
                rows = connection.execute(_rows().where(Adapter.repository_id.in_(changed))).all()
                self.columns = self.columns.without(set(changed) - {row[0] for row in rows}).put(rows)
            self.since = later
            return self.columns


def of(session: Session) -> Columns:
    """The columns of the database that a session is of, as they are now."""
    kept: _Kept = session.info["caches"].setdefault("catalogue", _Kept())
    return kept.newest(session.get_bind().engine)


def read_ahead(database: Database) -> None:
    """Have the columns read by a thread of their own, so that the first who asks for them need not wait so long."""
    threading.Thread(target=_read, args=(database,), name="catalogue", daemon=True).start()


def _read(database: Database) -> None:
    try:
        with database.read() as session:
            of(session)
    except SQLAlchemyError:
        _LOG.exception("the catalogue could not be read ahead; the first request reads it")


def _rows() -> Select[Any]:
    sources = [source for source, _ in _SOURCES.values()]
    return select(Adapter.repository_id, *sources).join(Repository, Repository.id == Adapter.repository_id)


def _with(array: Numbers, more: int, places: Numbers, values: Any) -> Numbers:
    made = np.concatenate([array, np.zeros(more, array.dtype)])
    made[places] = values
    return made


def _look(connection: Connection, since: int) -> tuple[int, list[int]]:
    """What later changes are numbered from, and whose rows have changed; in one statement, which sees one state.

    Of PostgreSQL, the former is the oldest transaction that may still be going on; what has a number that is not
    given yet was numbered by another server, and brought here.
    """
    if connection.dialect.name == "sqlite":
        present = "(SELECT coalesce(max(number), 0) + 1 FROM change)"
        changed = "SELECT repository_id AS id FROM change WHERE number >= :since LIMIT :most"
        ids = "group_concat(id, ' ')"
    else:
        present = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        given = "number < pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        changed = f"SELECT repository_id AS id FROM change WHERE number >= :since AND {given} LIMIT :most"
        ids = "string_agg(id::text, ' ')"
    statement = text(f"SELECT {present}, (SELECT {ids} FROM ({changed}) AS changed)")
    later, found = connection.execute(statement, {"since": since, "most": _CHUNK + 1}).one()
    return later, [int(one) for one in (found or "").split()]
