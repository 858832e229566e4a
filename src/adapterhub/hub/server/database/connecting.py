"""A connection to SQLite or PostgreSQL, and transactions on it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

_BUSY_SECONDS = 30


class Database:
    """Transactions on a database.

    Args:
        url: an address of SQLAlchemy: ``sqlite:///...`` or ``postgresql://...`` (by psycopg).
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        self.is_sqlite = address.get_backend_name() == "sqlite"
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        self.url = address
        if self.is_sqlite:
            if address.database and address.database != ":memory:":
                Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = _sqlite(address)
        else:
            self.engine = create_engine(address, pool_pre_ping=True, pool_size=20, max_overflow=20)
        # SQLite has one writer; waiting in a queue here is fairer and cheaper than polling there.
        self._caches: dict[str, Any] = {}  # of this process, for what is read often and checked at each use
        self._writer: Any = threading.Lock() if self.is_sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state of the database, and changes nothing."""
        with Session(self.engine, info={"caches": self._caches}) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is kept as a whole when the block ends, and not at all when it raises."""
        info = {"caches": self._caches}
        with self._writer, Session(self.engine, expire_on_commit=False, info=info) as session:
            session.connection(execution_options={"adapterhub_write": True})
            yield session
            session.commit()

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A transaction that sees one state of the database however long it takes, and holds up nobody."""
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**level) as connection, Session(connection) as session:
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to the newest form, or to an older one; of several workers one does, the others wait."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        config.attributes["engine"] = self.engine
        command.upgrade(config, revision)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def _sqlite(address: Any) -> Engine:
    engine = create_engine(address, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}, pool_size=32)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions; "begin" below does
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # what was acknowledged survives a loss of power too
            "foreign_keys=ON",
            "cache_size=-65536",
            "mmap_size=1073741824",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("adapterhub_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
