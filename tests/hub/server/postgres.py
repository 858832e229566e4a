"""A PostgreSQL of one's own, where Debian's package of it is installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy.engine import make_url

from adapterhub.hub.server.database import Database

_INSTALLED = Path("/usr/lib/postgresql")
_NUMBERS = count()

on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


class NotInstalledError(Exception):
    """There is no PostgreSQL to start."""


@dataclass(frozen=True)
class Postgres:
    """A running server, reached by a socket in ``folder``; ``version`` is what it says of itself."""

    folder: Path
    version: str

    def url(self, database: str) -> str:
        """The address of a database, for ``Settings``."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder), safe='')}"

    def new(self) -> str:
        """A new database with all tables, copied from one that is made once; returns its address."""
        if not self._has("template"):
            self.run("CREATE DATABASE template")
            made = Database(self.url("template"))
            made.migrate()
            made.close()
        name = f"hub{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template")
        return self.url(name)

    def remove(self, url: str) -> None:
        """Drop a database, whoever still is connected."""
        self.run(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def run(self, statement: str) -> None:
        """Run a statement outside of transactions."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _has(self, database: str) -> bool:
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres") as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
            return found.fetchone() is not None


@contextmanager
def running(*options: str) -> Iterator[Postgres]:
    """A server in a temporary folder; as the user ``postgres`` if this one is root, as which it does not run.

    Raises:
        NotInstalledError: if there is none to start.
    """
    binaries = sorted(_INSTALLED.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not binaries:
        raise NotInstalledError(f"PostgreSQL is not installed: there is no {_INSTALLED}/*/bin/pg_ctl")
    bin_folder = binaries[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="adapterhub-pg-", dir="/tmp"))
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("runuser") is None:
            raise NotInstalledError("PostgreSQL does not run as root, and there is no runuser")
        shutil.chown(folder, "postgres", "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]

    def do(*command: str | Path) -> str:
        made = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd="/", timeout=60, check=False)
        if made.returncode:
            raise RuntimeError(f"{command[0]}: {made.stdout}{made.stderr}")
        return made.stdout

    try:
        do(bin_folder / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        flags = f"-k {folder} -c listen_addresses='' " + " ".join(f"-c {option}" for option in options)
        log = folder / "log"
        do(bin_folder / "pg_ctl", "-D", folder / "data", "-l", log, "-w", "-o", flags, "start")
        try:
            yield Postgres(folder, do(bin_folder / "postgres", "--version").strip())
        finally:
            do(bin_folder / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
