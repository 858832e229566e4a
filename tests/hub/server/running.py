"""A hub as a process of its own, started by the command line as a user would."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import Scope
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings

COMMAND = (sys.executable, "-m", "adapterhub")


@dataclass
class Running:
    """A server that runs."""

    folder: Path
    url: str
    process: subprocess.Popen[str]
    database: str = ""

    def token(self, user: str, scope: Scope = "write") -> str:
        """A token of a user."""
        with self._hub() as hub, hub.database.write() as session:
            return accounts.new_token(session, accounts.account(session, user), "test", scope)

    def add_user(self, name: str, password: str | None = None, *, admin: bool = False) -> None:
        """A new user."""
        with self._hub() as hub, hub.database.write() as session:
            accounts.add_user(session, name, password, admin=admin)

    def settings(self) -> Settings:
        """Those of another process beside the server."""
        return Settings(directory=self.folder, database=self.database)

    @contextmanager
    def _hub(self) -> Iterator[Hub]:
        """The hub, as a second process beside the server has it."""
        hub = Hub.open(self.settings())
        yield hub
        hub.close()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by SIGTERM or more rudely."""
        self.process.send_signal(how)
        self.process.wait(30)


def run(*arguments: str, **environment: str) -> str:
    """What a command of ours prints."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(folder: Path, *options: str, port: int = 0, log: Path | None = None, **environment: str) -> Running:
    """Serve the hub in a folder, at a free port unless one is given; what it says goes to ``log``."""
    log = log or folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "hub", "serve", "--dir", str(folder), "--port", str(port), *options],
            stderr=file,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
        )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"The hub is at (http://\S+)\n", log.read_text()):
            with urllib.request.urlopen(f"{found[1]}/health", timeout=60):  # workers take a while
                return Running(folder, found[1], process, environment.get("ADAPTERHUB_DATABASE", ""))
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
