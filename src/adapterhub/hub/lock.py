"""``adapters.lock``: which commit and bytes each name of an adapter in a project means, so that they stay the same.

A JSON file to keep under version control::

    {
      "version": 1,
      "adapters": {
        "sentiment/sst-2@ukp": {
          "hub": "https://hub.example.org",
          "repository": "ukp/sst-2-roberta",
          "commit": "0123456789abcdef0123456789abcdef01234567",
          "files": {"adapter_config.json": {"sha256": "...", "size": 1234}}
        }
      }
    }
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, Self

from adapterhub.errors import CorruptCheckpointError, HubIdError
from adapterhub.files import locked, make_folder, replace, sha256_of
from adapterhub.hub.ids import RepositoryId, Revision, check_text

LOCK_FILE = "adapters.lock"
_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HELP = "Take it back from version control, or delete it and lock the adapters again"


@dataclass(frozen=True)
class LockedFile:
    """The bytes of a file: SHA-256 in hexadecimal, and how many."""

    sha256: str
    size: int


@dataclass(frozen=True)
class LockedAdapter:
    """What an identifier means: a commit of a repository on a hub, and the files in it by path."""

    hub: str
    repository: RepositoryId
    commit: str
    files: Mapping[str, LockedFile]

    def verify(self, folder: Path) -> None:
        """Pass a folder that holds these files to the byte, and no others.

        Raises:
            CorruptCheckpointError: for any other, with the first file that is missing, left over or altered.
        """
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        for name in sorted(there ^ set(self.files)):
            problem = "is in no commit that is locked" if name in there else "is missing"
            self._refuse(folder, name, problem)
        for name, expected in sorted(self.files.items()):
            if (found := file_of(folder / name)) != expected:
                what = f"has {found.size} bytes with SHA-256 {found.sha256}, and not {expected.size} with"
                self._refuse(folder, name, f"{what} {expected.sha256}")

    def _refuse(self, folder: Path, name: str, problem: str) -> NoReturn:
        raise CorruptCheckpointError(
            f"{folder} is not {self.repository} at {self.commit} as {LOCK_FILE} has it: {name} {problem}. Download it "
            "again, or lock the adapter again if it is to change"
        )


@dataclass(frozen=True)
class Lock:
    """All adapters that are locked, by identifier or address as it was written."""

    adapters: Mapping[str, LockedAdapter] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The lock at ``path``; an empty one where there is none.

        Raises:
            CorruptCheckpointError: if the file is no lock, or one of a later version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (version := content["version"]) != _VERSION:
                raise CorruptCheckpointError(f"{path} is of version {version!r}, and this library reads {_VERSION}")
            for name in content["adapters"]:
                check_text(name)
            return cls({name: _adapter(one) for name, one in content["adapters"].items()})
        except FileNotFoundError:
            return cls()
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, HubIdError) as error:
            if isinstance(error, CorruptCheckpointError):
                raise
            raise CorruptCheckpointError(f"{path} is no lock file: {error!r}. {_HELP}") from error

    def write(self, path: Path) -> None:
        """Put the lock in the place of the file at ``path`` in one step, in the order of the identifiers."""
        adapters = {
            name: {
                "hub": one.hub,
                "repository": str(one.repository),
                "commit": one.commit,
                "files": {file: {"sha256": it.sha256, "size": it.size} for file, it in sorted(one.files.items())},
            }
            for name, one in sorted(self.adapters.items())
        }
        make_folder(path.parent)
        replace(path, (json.dumps({"version": _VERSION, "adapters": adapters}, indent=2) + "\n").encode())


def pin(path: Path, text: str, adapter: LockedAdapter) -> None:
    """Lock one adapter more, or another way, in the file at ``path``; what other processes lock meanwhile stays.

    ``text`` is what a person writes: an identifier, or the address of a page.

    Raises:
        CorruptCheckpointError: if the file is no lock.
        HubIdError: if ``text`` is neither.
    """
    check_text(text)
    make_folder(path.parent)
    with locked(path.parent):
        Lock({**Lock.read(path).adapters, text: adapter}).write(path)


def file_of(path: Path) -> LockedFile:
    """Size and SHA-256 of a file."""
    return LockedFile(sha256_of(path), path.stat().st_size)


def files_of(values: Mapping[str, Mapping[str, Any]]) -> dict[str, LockedFile]:
    """The files of a commit by path, from JSON.

    Raises:
        ValueError: if a path leads out of the folder, or a file has no SHA-256 and size.
    """
    files = {name: LockedFile(it["sha256"], it["size"]) for name, it in values.items()}
    for name, file in files.items():
        if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\\" in name or not name:
            raise ValueError(f"{name!r} leads out of the folder")
        if not _SHA256.fullmatch(file.sha256) or type(file.size) is not int or file.size < 0:
            raise ValueError(f"{name!r} has {file.sha256!r} and {file.size!r} instead of a SHA-256 and a size")
    return files


def _adapter(values: Mapping[str, Any]) -> LockedAdapter:
    commit, files = Revision(values["commit"]), files_of(values["files"])
    if not (isinstance(values["hub"], str) and commit.is_commit):
        raise ValueError(f"{values['commit']!r} is no commit, or {values['hub']!r} no hub")
    return LockedAdapter(values["hub"], RepositoryId.parse(values["repository"]), str(commit), files)
