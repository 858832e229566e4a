"""What all formats have in common: the files of a folder, read once and strictly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.configs import hub_name, read_config
from adapterhub.hub.inspecting.files import JSON, UNPICKLE, Opener
from adapterhub.hub.inspecting.tensors import TensorFile, check_finite, read_header

_PIECE = 4 * 1024 * 1024


class Known(NamedTuple):
    """What is known of a file before it is opened: its SHA-256, and whether its values were found to be finite."""

    sha256: str
    finite: bool


@dataclass(frozen=True)
class Folder:
    """A folder of a repository.

    Attributes:
        files: by their paths from it.
        path: its own, for errors.
        known: of some files, by their whole paths, what need not be looked for again.
    """

    files: Mapping[str, Opener]
    path: str = ""
    known: Mapping[str, Known] = field(default_factory=dict)

    def sub(self, name: str) -> "Folder":
        """A folder in it."""
        inner = {
            path.removeprefix(f"{name}/"): file for path, file in self.files.items() if path.startswith(f"{name}/")
        }
        return Folder(inner, self.at(name), self.known)

    def at(self, name: str) -> str:
        """The whole path of a file."""
        return f"{self.path}/{name}" if self.path else name

    def config(self, name: str) -> dict[str, Any] | None:
        """The checked configuration in a file, or None where there is none.

        Raises:
            UploadRefusedError: for one that is not whole, or that is denied.
        """
        if name not in self.files:
            return None
        with self.files[name]() as file:
            data = file.read(JSON + 1)
        if len(data) > JSON:
            raise UploadRefusedError(f"{self.at(name)} is larger than {JSON:,} bytes, and no configuration")
        return read_config(data, self.at(name))

    def tensors(self, name: str, sha256: str | None = None) -> TensorFile:
        """The header of a file of finite values, with the given SHA-256 if there is one.

        Raises:
            UploadRefusedError: if it is not there, altered, malformed, or holds other values.
        """
        if name not in self.files:
            pickled = next((path for path in sorted(self.files) if path.endswith(".bin")), None)
            remedy = f"{pickled} is a pickle: {UNPICKLE}" if pickled else "upload all that belongs to the adapter"
            raise UploadRefusedError(f"{self.at(name)} is missing: {remedy}.")
        known = self.known.get(self.at(name))
        with self.files[name]() as file:
            if sha256 is not None and (_sha256(file) if known is None else known.sha256) != sha256:
                raise UploadRefusedError(
                    f"{self.at(name)} is truncated or altered: its SHA-256 is not that of the manifest. Copy it again."
                )
            found = read_header(file, self.at(name))
            if known is None or not known.finite:
                check_finite(file, found)
            return found


def base_name(values: Mapping[str, Any], key: str) -> str | None:
    """The name of a base model that a configuration gives, or None; ``read_config`` has checked that it is one."""
    name = values.get(key)
    return name if isinstance(name, str) and name and hub_name(name) else None


def text(values: Mapping[str, Any], key: str) -> str | None:
    """A text of a configuration, or None where there is none."""
    value = values.get(key)
    return value if isinstance(value, str) and value else None


def number(values: Mapping[str, Any], key: str) -> int | None:
    """A whole number above 0 of a configuration, or None where there is none."""
    value = values.get(key)
    return value if type(value) is int and value > 0 else None


def mapping(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """An object of a configuration, empty where there is none.

    Raises:
        UploadRefusedError: for something else.
    """
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        raise UploadRefusedError(f"{where}: {key!r} must be an object, and is {value!r}")
    return value or {}


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
