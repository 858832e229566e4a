"""A PostgreSQL of its own, from Debian's package."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import geteuid
from pathlib import Path

_FOLDERS = [Path("/usr/local/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def program(name: str) -> str | None:
    """Where a program of PostgreSQL is; Debian has most of them beside the path."""
    return shutil.which(name) or next((str(one / name) for one in _FOLDERS if (one / name).exists()), None)


@contextmanager
def cluster() -> Iterator[str]:
    """A server that listens at a socket in a folder, which this gives; all is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    user = "postgres" if geteuid() == 0 else None  # it does not run as root
    if user:
        shutil.chown(folder, user)

    def run(name: str, *arguments: str) -> None:
        subprocess.run([str(program(name)), *arguments], check=True, capture_output=True, user=user, cwd=folder)

    data = str(folder / "data")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=200"
    try:
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield str(folder)
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
