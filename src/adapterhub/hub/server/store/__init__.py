"""Where the bytes of files are: each once, under its SHA-256, never changed."""

from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.store.base import Store
from adapterhub.hub.server.store.local import LocalStore


def open_store(settings: Settings) -> Store:
    """The store that the settings name: a folder, or a bucket of S3 (or of what speaks like it)."""
    if settings.storage:
        from adapterhub.hub.server.store.s3 import S3Store

        return S3Store(settings.storage, settings.storage_options)
    return LocalStore(settings.directory / "blobs")


__all__ = ["LocalStore", "Store", "open_store"]
