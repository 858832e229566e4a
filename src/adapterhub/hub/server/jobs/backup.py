"""A copy of a hub in a folder, made while it serves; the next copy into the same folder adds what is new.

The tables are one state of the database. What they need of the store is copied after it: bytes come into the store
before the commits that name them, and never change. The manifest comes last, and holds the SHA-256 of every file of
tables; files of the store have theirs for a name. Until it is there the copy before holds.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy.orm import Session

import adapterhub
from adapterhub.errors import HubError
from adapterhub.files import locked, make_folder, replace
from adapterhub.hub.server.database import Base, now
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import dumping
from adapterhub.hub.server.jobs.references import referenced
from adapterhub.hub.server.jobs.scrubbing import DamageError
from adapterhub.hub.server.staging import staged
from adapterhub.hub.server.store import LocalStore, Store

MANIFEST, TABLES, BLOBS, WORDS = "manifest.json", "tables", "blobs", "words"
FORMAT = 1
# What is on its way in, counts of this minute, and what triggers write.
_LEFT_OUT = ("upload", "piece", "rate_window", "change")
_TRIES = 3

Progress = Callable[[float, float, str], object]


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        format: of the backup.
        made: when.
        version: of adapterhub.
        revision: of the tables, as the migrations number them.
        folder: of the files of tables.
        tables: by name, the number of rows and the SHA-256 of the file.
        blobs: how many files of the store.
        bytes: of these.
    """

    format: int
    made: str
    version: str
    revision: str
    folder: str
    tables: dict[str, tuple[int, str]]
    blobs: int
    bytes: int

    def write(self, folder: Path) -> None:
        """Put it into a backup, as its last file."""
        content = asdict(self)
        text = json.dumps({**content, "digest": _digest(content)}, indent=1)
        replace(folder / MANIFEST, text.encode(), 0o600)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """That of a backup.

        Raises:
            HubError: if there is none, or it is not what was written.
        """
        try:
            content = json.loads((folder / MANIFEST).read_bytes())
            digest = content.pop("digest")
        except FileNotFoundError as error:
            raise HubError(f"{folder} holds no backup, or one that was not finished") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise DamageError(f"{folder / MANIFEST} is damaged: {error}") from error
        if digest != _digest(content):
            raise DamageError(f"{folder / MANIFEST} is damaged: it is not what was written")
        if content["format"] != FORMAT:
            raise HubError(f"{folder} was made by adapterhub {content['version']}, in a form that is not known here")
        tables = {name: (rows, sha256) for name, (rows, sha256) in content["tables"].items()}
        return cls(**content | {"tables": tables})


def back_up(hub: Hub, folder: Path, progress: Progress) -> Manifest:
    """Copy a hub into a folder.

    Raises:
        DamageError: if the store does not hold what it should; ``hub scrub`` says what else.
    """
    make_folder(folder)
    folder.chmod(0o700)
    with locked(folder):
        for attempt in range(_TRIES):
            try:
                return _back_up(hub, folder, progress)
            except FileNotFoundError as error:
                # A repository was deleted meanwhile, and the garbage collection came: begin anew.
                if attempt == _TRIES - 1:
                    raise DamageError(f"the store does not hold {error.filename or error}") from error
    raise AssertionError("unreachable")


def copy(source: Store, target: Store, sha256: str, size: int, folder: Path) -> None:
    """Copy a file from store to store, unless it is there.

    Raises:
        DamageError: if it is not what its name says.
    """
    if target.exists(sha256):
        return
    with staged(folder, source.read(sha256, 0, size), size, sha256) as file:
        if file.sha256 != sha256:
            raise DamageError(f"the file {sha256} is damaged: its bytes are not those of its name")
        target.put(sha256, file.path)


def _back_up(hub: Hub, folder: Path, progress: Progress) -> Manifest:
    stamp = f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    make_folder(folder / TABLES / stamp)
    with hub.database.snapshot() as session:
        tables, sizes, revision = _tables(session, folder / TABLES / stamp)
    store = LocalStore(folder / BLOBS)
    for number, (sha256, size) in enumerate(sizes.items()):
        progress(number, len(sizes), "files")
        copy(hub.store, store, sha256, size, folder / "incoming")
    manifest = Manifest(
        format=FORMAT,
        made=now().isoformat(),
        version=adapterhub.__version__,
        revision=revision,
        folder=stamp,
        tables=tables,
        blobs=len(sizes),
        bytes=sum(sizes.values()),
    )
    manifest.write(folder)
    _tidy(folder, stamp, store, sizes)
    return manifest


def _tables(session: Session, folder: Path) -> tuple[dict[str, tuple[int, str]], dict[str, int], str]:
    """Write all tables of one state; returns what they are, the sizes of the files they need, and their revision."""
    needed = referenced(session)
    sizes: dict[str, int] = {}

    def is_needed(row: Any) -> bool:
        if row.sha256 in needed:
            sizes[row.sha256] = row.size
        return row.sha256 in needed

    tables = {}
    for table in Base.metadata.sorted_tables:
        if table.name not in _LEFT_OUT:
            wanted = is_needed if table.name == "blob" else lambda row: True
            tables[table.name] = dumping.dump(session, table, folder / f"{table.name}.jsonl", wanted)
    tables[WORDS] = dumping.dump_words(session, folder / f"{WORDS}.jsonl")
    revision = MigrationContext.configure(session.connection()).get_current_revision()
    if missing := needed - set(sizes):
        raise DamageError(f"commits name files of which nothing is known: {', '.join(sorted(missing)[:10])}")
    return tables, sizes, str(revision)


def _tidy(folder: Path, stamp: str, store: LocalStore, sizes: Mapping[str, int]) -> None:
    """What copies before this one held, and this one does not, goes."""
    for old in (folder / TABLES).iterdir():
        if old.name != stamp:
            shutil.rmtree(old)
    for sha256, _ in list(store.listing()):
        if sha256 not in sizes:
            store.delete(sha256)
    shutil.rmtree(folder / "incoming", ignore_errors=True)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
