"""Servers that run, and stock clients that talk to them in environments of their own."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub.server.settings import Settings
from hub.server.adapter_files import lora, write
from hub.server.protocol.conftest import people
from hub.server.running import Running, start

HERE = Path(__file__).parent
ROOT = HERE.parents[4]
ENVIRONMENTS = ROOT / ".venv-hub"


def _versions() -> Iterator[str]:
    """The versions to test; the latest is left out if it is one of the others."""
    named = (ROOT / "tests" / "hub" / "clients.txt").read_text().split()
    for version in named:
        installed = (ENVIRONMENTS / version).glob("lib/python*/site-packages/huggingface_hub-*.dist-info")
        numbers = [one.name.removesuffix(".dist-info").partition("-")[2] for one in installed]
        if version != "latest" or not set(numbers) & set(named):
            yield version


VERSIONS = tuple(_versions())


@dataclass(frozen=True)
class Lane:
    """A way for large files to come in: what the server is told for it, and the client."""

    name: str
    server: dict[str, str] = field(default_factory=dict)
    client: dict[str, str] = field(default_factory=dict)


LANES = (
    Lane("auto"),
    Lane("regular", server={"ADAPTERHUB_UPLOADS": "regular"}),
)


@dataclass(frozen=True)
class Talk:
    """A server, and how clients talk to it."""

    server: Running
    lane: Lane
    tokens: dict[str, str]

    def environment(self, home: Path) -> dict[str, str]:
        """That of a client of ann's, with nothing but the address and the token set."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        own = {"HF_ENDPOINT": self.server.url, "HF_TOKEN": self.tokens["ann"], "HF_HOME": str(home), "HOME": str(home)}
        return kept | {"PYTHONWARNINGS": "ignore"} | own | self.lane.client

    def run(self, python: Path, script: str, *arguments: str, home: Path, **environment: str) -> Any:
        """What a script of this folder prints as its last line, in JSON."""
        done = subprocess.run(
            [str(python), str(HERE / script), *arguments],
            capture_output=True,
            text=True,
            env=self.environment(home) | environment,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Lane], Talk]]:
    """Starts a server for a lane, once for all tests; it has the users ann and bob."""
    talks: dict[str, Talk] = {}

    def made(lane: Lane) -> Talk:
        if lane.name not in talks:
            hub = tmp_path_factory.mktemp("served") / "hub"
            tokens = people(Settings(directory=hub))
            talks[lane.name] = Talk(start(hub, **lane.server), lane, tokens)
        return talks[lane.name]

    yield made
    for one in talks.values():
        one.server.stop()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of 3 MB, and files of many names and sizes beside it."""
    others = {"empty.txt": b"", "one.txt": b"1", "a/b/c/deep.md": b"deep", "notes/dépôt 1+2.md": "naïve".encode()}
    files = lora(rank=64, size=768, layers=8) | others | {"more.jsonl": b'{"a": 1}\n' * 20_000}
    return write(tmp_path_factory.mktemp("adapter"), files)


def environment(version: str) -> Path:
    """The Python of the environment of a version; the test is skipped where there is none."""
    python = ENVIRONMENTS / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python.relative_to(ROOT)}: scripts/hub-clients makes it")
    return python
