"""Publishing while the server is killed again and again, and what has to hold afterwards."""

import hashlib
import io
import json
import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.numpy import save
from sqlalchemy import select

from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import STRANGER
from adapterhub.hub.server.database import Blob, Commit, Piece, Tree, Upload
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.running import Running, run, start

WEIGHTS, CONFIG, NOTE = "adapter_model.safetensors", "adapter_config.json", "README.md"
_MODULE = "base_model.model.encoder.layer.0.attention.self.query"
# The client that speaks Xet gives up soon, as its user would, and is started again.
os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")
os.environ.setdefault("HF_XET_CLIENT_RETRY_BASE_DELAY", "200ms")


@dataclass
class Outcome:
    """What happened.

    Attributes:
        publishes, kills, clients: as asked for.
        acknowledged: publishes that the server said it had made.
        tried: how often clients tried in all.
        commits: how many there are, the first of each repository left out.
        lost: acknowledged commits that are not in the history of the main branch.
        broken: commits of which a file is missing, altered, or of another version than the rest.
        orphans: what nothing needed before the garbage collection.
        left: what nothing needed after it.
        seconds: all in all.
    """

    publishes: int
    kills: int
    clients: int
    acknowledged: int = 0
    tried: int = 0
    commits: int = 0
    lost: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    orphans: int = 0
    left: int = 0
    seconds: float = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def version(number: int) -> dict[str, bytes]:
    """The files of a version of an adapter, each of which tells the number."""
    draw = numpy.random.default_rng(number)
    tensors = {
        f"{_MODULE}.lora_A.weight": draw.normal(size=(8, 768)).astype("float32"),
        f"{_MODULE}.lora_B.weight": draw.normal(size=(768, 8)).astype("float32"),
    }
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "bert-base-uncased",
        "r": 8,
        "lora_alpha": 8 + number,
        "target_modules": ["query"],
        "task_type": None,
    }
    note = f"---\nlicense: mit\n---\nVersion {number}\n"
    return {WEIGHTS: save(tensors), CONFIG: json.dumps(config).encode(), NOTE: note.encode()}


def publish_and_kill(folder: Path, publishes: int, kills: int, clients: int = 8, seed: int = 0) -> Outcome:
    """Publish versions of adapters with stock clients while the server is killed; then look at what is there."""
    began, outcome = time.monotonic(), Outcome(publishes, kills, clients)
    server = start(folder)
    server.add_user("ann")
    token = server.token("ann")
    names = [f"ann/adapter-{number}" for number in range(max(publishes // 20, 2))]
    for name in names:
        HfApi(server.url, token=token).create_repo(name)
    told = _Told()
    with ThreadPoolExecutor(clients) as threads:
        work = [
            threads.submit(_publish, server.url, token, names[number % len(names)], number, told)
            for number in range(publishes)
        ]
        server = _kill(server, told, publishes, kills, random.Random(seed))
        for one in work:
            one.result()
    outcome.tried, outcome.acknowledged = told.tried, len(told.commits)
    hub = Hub.open(Settings(directory=folder))
    try:
        _read(hub, server.url, told.commits, outcome)
        server.stop()
        outcome.orphans = _orphans(hub)
        run("hub", "gc", "--dir", str(folder), "--hours", "0")
        outcome.left = _orphans(hub)
    finally:
        hub.close()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


@dataclass
class _Told:
    """What the clients know: each commit by its id, with its repository and the number of the version."""

    commits: dict[str, tuple[str, int]] = field(default_factory=dict)
    tried: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def _publish(url: str, token: str, name: str, number: int, told: _Told) -> None:
    """Publish a version until it is acknowledged; every other one goes by LFS, the rest by Xet."""
    while True:
        with told.lock:
            told.tried += 1
        files = {
            path: io.BytesIO(data) if number % 2 and path == WEIGHTS else data for path, data in version(number).items()
        }
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        try:
            made = HfApi(url, token=token).create_commit(name, operations, commit_message=f"Version {number}")
        except Exception:  # whatever a client says of a server that is gone
            time.sleep(0.2)
            continue
        with told.lock:
            told.commits[made.oid] = name, number
        return


def _kill(server: Running, told: _Told, publishes: int, kills: int, draw: random.Random) -> Running:
    """Kill the server while it works, at times spread over all of it, and start it again at the same port."""
    port = int(server.url.rpartition(":")[2])
    for kill in range(kills):
        while len(told.commits) < kill * publishes // kills:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        server.stop(signal.SIGKILL)
        server = start(server.folder, port=port)
    return server


def _read(hub: Hub, url: str, told: Mapping[str, tuple[str, int]], outcome: Outcome) -> None:
    """See that what was acknowledged is there, as the server gives it, and that all that is there is whole."""
    histories = {name: _history(hub, name) for name in {name for name, _ in told.values()}}
    for oid, (name, number) in told.items():
        if oid not in histories[name]:
            outcome.lost.append(oid)
        for path, data in version(number).items():
            with urlopen(f"{url}/{name}/resolve/{oid}/{path}") as answer:
                if answer.read() != data:
                    outcome.broken.append(f"{oid}/{path}")
    expected = {_digests(version(number)) for number in range(outcome.publishes)}
    with hub.database.read() as session:
        commits = session.scalars(select(Commit).where(Commit.parent.is_not(None))).all()
        outcome.commits = len(commits)
        for commit in commits:
            files = frozenset((path, str(file[1])) for path, file in commit.tree.files.items())
            whole = all(hashlib.sha256(hub.store.open(digest).read()).hexdigest() == digest for _, digest in files)
            if files not in expected or not whole:
                outcome.broken.append(commit.oid)


def _digests(files: Mapping[str, bytes]) -> frozenset[tuple[str, str]]:
    return frozenset((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())


def _history(hub: Hub, name: str) -> set[str]:
    """The commits that the main branch of a repository leads to."""
    with hub.database.read() as session:
        repository = repositories.find(session, STRANGER, *name.split("/"))
        head = repositories.revision(session, repository, "main")
        return {one.oid for one in repositories.history(session, repository, head)}


def _orphans(hub: Hub) -> int:
    """How many rows and files nothing needs."""
    with hub.database.read() as session:
        needed = {str(file[1]) for files in session.scalars(select(Tree.files)) for file in files.values()}
        trees = set(session.scalars(select(Tree.oid))) - set(session.scalars(select(Commit.tree_oid)))
        rows = set(session.scalars(select(Blob.sha256))) ^ needed
        waiting = [*session.scalars(select(Upload)), *session.scalars(select(Piece))]
    stored = {sha256 for sha256, _ in hub.store.listing()} ^ needed
    return len(trees) + len(rows) + len(waiting) + len(stored) + len(list(hub.uploads.glob("*")))
