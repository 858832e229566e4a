"""A hub as a whole: its settings, database, store and keys. All that workers share is in the latter two."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.database import Database
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.store import Store, open_store


@dataclass(frozen=True)
class Hub:
    """What every part of the server works with.

    Attributes:
        settings: how it is run.
        database: who, what and when.
        store: the bytes.
        key: what signs links and forms.
    """

    settings: Settings
    database: Database
    store: Store
    key: str

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open a hub; its folder and tables are made, or brought to the newest form, if need be."""
        settings.directory.mkdir(parents=True, exist_ok=True)
        database = Database(settings.database_url)
        database.migrate()
        with database.write() as session:
            taxonomy.seed(session)
        return cls(settings, database, open_store(settings), settings.signing_key())

    @property
    def uploads(self) -> Path:
        """The folder of bytes on their way in."""
        return self.settings.directory / "uploads"

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()
