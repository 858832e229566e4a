"""Where adapters come from: a folder, or a hub."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from adapterhub.checkpoints.native import ADAPTER_MANIFEST
from adapterhub.errors import HubIdError, HubNotFoundError, ServingError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.client.pulling import pull
from adapterhub.hub.client.resolving import Wanted
from adapterhub.hub.ids import Identifier
from adapterhub.serving.errors import UnknownAdapterError


@dataclass(frozen=True)
class Found:
    """An adapter that is here.

    Attributes:
        folder: its files.
        version: which ones: another one where they changed.
        source: where it comes from, in words.
    """

    folder: Path
    version: str
    source: str


class Source(Protocol):
    """Somewhere that adapters come from."""

    def find(self, name: str) -> Found:
        """The adapter of that name as it is now, brought here if need be.

        Raises:
            UnknownAdapterError: if there is none.
        """

    def names(self) -> list[str]:
        """Those that can be listed."""


class FolderSource:
    """The adapters in a folder, by the paths of their folders in it."""

    def __init__(self, folder: Path) -> None:
        """Raises ``ServingError`` if there is no such folder."""
        if not folder.is_dir():
            raise ServingError(f"{folder} is no folder of adapters: give one that is there, or none")
        self._folder = folder

    def find(self, name: str) -> Found:
        found = self._folder / name
        plain = PurePosixPath(name)
        outside = plain.is_absolute() or ".." in plain.parts or plain.as_posix() != name
        if outside or not plain.parts or not (found / ADAPTER_MANIFEST).is_file():
            raise UnknownAdapterError(f"the folder of this server has no adapter {name!r}")
        files = sorted(path for path in found.rglob("*") if path.is_file())
        seen = [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
        return Found(found, hashlib.sha256(repr(seen).encode()).hexdigest()[:16], "folder")

    def names(self) -> list[str]:
        manifests = (path.parent for path in self._folder.rglob(ADAPTER_MANIFEST))
        return sorted(one.relative_to(self._folder).as_posix() for one in manifests if one != self._folder)


class HubSource:
    """The adapters of a hub, by their names there; fetched once, and kept in the cache of the client.

    Args:
        url: the address of the hub.
        fingerprint: that of the base model, for names that several adapters answer to.
    """

    def __init__(self, url: str, fingerprint: Fingerprint) -> None:
        self._url = url
        self._wanted = Wanted(fingerprint.name or None, fingerprint)

    def find(self, name: str) -> Found:
        Identifier.parse(name)  # never a path here, nor the address of a page of some other machine
        pulled = pull(name, self._wanted, hub=self._url)
        version = pulled.folder.name if pulled.found is None else pulled.found.commit
        return Found(pulled.folder, version, "hub")

    def names(self) -> list[str]:
        return []


class Sources:
    """Several in order: the first one that has an adapter gives it."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources

    def find(self, name: str) -> Found:
        missing = []
        for source in self._sources:
            try:
                return source.find(name)
            except (UnknownAdapterError, HubNotFoundError, HubIdError) as error:
                missing.append(str(error))
        raise UnknownAdapterError("; ".join(missing) or f"this server has no adapter {name!r}, nor a hub to ask")

    def names(self) -> list[str]:
        return [name for source in self._sources for name in source.names()]
