"""The folder that a name stands for: the one of that path, or what is fetched from a hub."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.errors import CheckpointNotFoundError, HubNotFoundError
from adapterhub.saving import native

if TYPE_CHECKING:
    from adapterhub.hub.client.resolving import Wanted
    from adapterhub.model import AdapterMixin


def local_folder(
    name_or_path: str | PathLike[str],
    wanted: "Wanted",
    *,
    hub: str | None = None,
    allow_pickle: bool = False,
    where: Mapping[str, Any] | None = None,
) -> Path:
    """A folder, or that of the adapter that a name stands for on a hub, fetched if it is not here.

    Raises:
        CheckpointNotFoundError: if it is neither.
        HubError: as ``adapterhub.pull``.
    """
    path = Path(name_or_path).expanduser()
    if path.exists() or isinstance(name_or_path, PathLike):
        return path
    from adapterhub.hub.client.pulling import pull  # takes time, and a folder that is here needs none of it
    from adapterhub.hub.client.resolving import is_identifier

    if not is_identifier(str(name_or_path)):
        return path
    try:
        return pull(str(name_or_path), wanted, hub=hub, allow_pickle=allow_pickle, where=where).folder
    except HubNotFoundError as error:
        raise CheckpointNotFoundError(f"{str(name_or_path)!r} is not a folder; as a name on a hub: {error}") from error


def folder_for(
    model: "AdapterMixin",
    name_or_path: str | PathLike[str],
    *,
    version: str | None = None,
    hub: str | None = None,
    allow_pickle: bool = False,
) -> Path:
    """As ``local_folder``, of names that stand for several adapters the one that fits the model."""
    if Path(name_or_path).expanduser().exists():
        return Path(name_or_path).expanduser()
    from adapterhub.hub.client.resolving import Wanted

    fingerprint = native.fingerprint(model)
    wanted = Wanted(fingerprint.name or None, fingerprint, version=version)
    return local_folder(name_or_path, wanted, hub=hub, allow_pickle=allow_pickle)
