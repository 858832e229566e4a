"""A hub as a process of its own, started by the command line as a user would."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "adapterhub")


@dataclass
class Running:
    """A server that runs."""

    folder: Path
    url: str
    process: subprocess.Popen[str]

    def token(self, user: str, scope: str = "write") -> str:
        """A token of a user."""
        return run("hub", "token", "--dir", str(self.folder), "--user", user, "--scope", scope).strip()

    def add_user(self, name: str, *options: str) -> None:
        """A new user."""
        run("hub", "user", "add", name, "--dir", str(self.folder), *options)

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


def start(folder: Path, *options: str, port: int = 0, **environment: str) -> Running:
    """Serve the hub in a folder, at a free port unless one is given."""
    process = subprocess.Popen(
        [*COMMAND, "hub", "serve", "--dir", str(folder), "--port", str(port), *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stderr is not None
    seen = ""
    until = time.monotonic() + 60
    while time.monotonic() < until and (line := process.stderr.readline()):
        seen += line
        if found := re.search(r"The hub is at (http://\S+)", line):
            return Running(folder, found[1], process)
    raise AssertionError(f"the server did not start:\n{seen}")
