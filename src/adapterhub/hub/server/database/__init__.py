"""The database: its tables, how it is connected to, and its migrations."""

from adapterhub.hub.server.database.connecting import Database
from adapterhub.hub.server.database.tables import *  # noqa: F403
from adapterhub.hub.server.database.tables import __all__ as _tables

__all__ = ["Database", *_tables]
