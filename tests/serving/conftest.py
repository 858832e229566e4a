"""A server that runs, and the model that its answers are compared with."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

import pytest

from adapterhub.serving import Client
from serving import making


@dataclass
class Served:
    """A server as a process of its own, started by the command line as a user would."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by SIGTERM or more rudely."""
        self.process.send_signal(how)
        self.process.wait(60)


@dataclass(frozen=True)
class Place:
    """Where a model and its adapters are."""

    base: Path
    adapters: Path
    model: Any


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A base model, and adapters of many kinds."""
    folder = tmp_path_factory.mktemp("serving")
    base = making.base(folder / "base")
    model = making.model_with(base)
    making.save(model, folder / "adapters")
    return Place(base, folder / "adapters", model)


def start(place: Place, log: Path, *options: str, **environment: str) -> Served:
    """Serve, at a free port."""
    named = {f"ADAPTERHUB_SERVING_{name.upper()}": value for name, value in environment.items()}
    command = [sys.executable, "-m", "adapterhub", "serve", "--model", str(place.base)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--adapters", str(place.adapters), "--port", "0", *options],
            stderr=file,
            text=True,
            env={**environ, **named},
        )
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"is served at (http://\S+)\n", log.read_text()):
            return Served(found[1], process, log)
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server, one for all tests that leave its adapters as they are."""
    made = start(place, tmp_path_factory.mktemp("served") / "log", max_body_bytes="2000000", timeout="120")
    yield made
    made.stop()


@pytest.fixture
def starting(place: Place, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """What starts servers for one test, and ends them."""
    made: list[Served] = []

    def begin(*options: str, at: Place = place, **environment: str) -> Served:
        made.append(start(at, tmp_path / f"log{len(made)}", *options, **environment))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    """A client of the server for all tests."""
    with Client(served.url) as made:
        yield made
