"""A hub from a backup, whatever database and store it was made from."""

import json
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import MetaData, func, inspect, select, text

from adapterhub.errors import HubConflictError, HubError
from adapterhub.files import sha256_of
from adapterhub.hub.server.database import Account, Base, Database
from adapterhub.hub.server.jobs import dumping
from adapterhub.hub.server.jobs.backup import BLOBS, TABLES, WORDS, Manifest, Progress, copy
from adapterhub.hub.server.jobs.scrubbing import DamageError
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.store import LocalStore, open_store


def restore(folder: Path, settings: Settings, progress: Progress) -> Manifest:
    """Fill an empty hub from a backup, all of which is checked before anything is changed.

    Raises:
        HubConflictError: if there are accounts in the hub.
        DamageError: if the backup is damaged.
        HubError: if it is none, or of a newer adapterhub.
    """
    manifest = Manifest.read(folder)
    sizes = _checked(folder, manifest, progress)
    database = Database(settings.database_url)
    try:
        _check_empty(database, manifest)
        store = open_store(settings)
        for number, (sha256, size) in enumerate(sizes.items()):
            progress(number, len(sizes), "copying files")
            copy(LocalStore(folder / BLOBS), store, sha256, size, settings.directory / "uploads")
        progress(0, 1, "filling tables")
        _migrate(database, manifest)
        _fill(database, folder / TABLES / manifest.folder, manifest)
        database.migrate()
    finally:
        database.close()
    return manifest


def _checked(folder: Path, manifest: Manifest, progress: Progress) -> dict[str, int]:
    """The sizes of the files of the store, when every file of the backup is what it was."""
    tables = folder / TABLES / manifest.folder
    for name, (_, sha256) in manifest.tables.items():
        _check(tables / f"{name}.jsonl", sha256)
    with (tables / "blob.jsonl").open("rb") as lines:
        sizes = {row["sha256"]: row["size"] for row in map(json.loads, lines)}
    store = LocalStore(folder / BLOBS)
    for number, sha256 in enumerate(sizes):
        progress(number, len(sizes), "checking files")
        path = store.path(sha256)
        assert path is not None
        _check(path, sha256)
    return sizes


def _check(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise DamageError(f"the backup is damaged: {path}: {error.strerror}. Nothing was changed.") from error
    if found != sha256:
        raise DamageError(f"the backup is damaged: {path} is not what was written. Nothing was changed.")


def _check_empty(database: Database, manifest: Manifest) -> None:
    with database.engine.connect() as connection:
        if not inspect(connection).has_table(Account.__tablename__):
            return
        if connection.execute(select(func.count()).select_from(Account)).scalar():
            raise HubConflictError("there are accounts in this hub: a backup is restored into an empty one")
        found = MigrationContext.configure(connection).get_current_revision()
    if found != manifest.revision:
        raise HubConflictError(
            "the tables of this hub are there, in another form than those of the backup: restore it into a new folder "
            "or database, and it is brought to the newest form"
        )


def _migrate(database: Database, manifest: Manifest) -> None:
    try:
        database.migrate(manifest.revision)
    except CommandError as error:
        raise HubError(f"the backup was made by adapterhub {manifest.version}, which is newer than this one") from error


def _fill(database: Database, folder: Path, manifest: Manifest) -> None:
    """Put in the place of all rows those of the backup, in one transaction."""
    with database.write() as session:
        connection = session.connection()
        found = MetaData()
        found.reflect(connection, only=[name for name in manifest.tables if name != WORDS])
        for table in reversed(Base.metadata.sorted_tables):
            if inspect(connection).has_table(table.name):
                connection.execute(text(f'DELETE FROM "{table.name}"'))
        for table in found.sorted_tables:
            dumping.load(connection, table, folder / f"{table.name}.jsonl")
        dumping.load_words(session, folder / f"{WORDS}.jsonl")
