"""The folder that a name stands for: the one of that path, or what is fetched from a hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.errors import CheckpointNotFoundError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint
from adapterhub.methods import load_config
from adapterhub.saving import native

if TYPE_CHECKING:
    from adapterhub.hub.client.resolving import Wanted
    from adapterhub.model import AdapterMixin


@dataclass(frozen=True)
class Chosen(PathLike[str]):
    """A folder that was chosen for a model.

    Attributes:
        folder: which.
        fingerprint: of the model, if a hub had to be told; it is not worked out again to check what comes.
    """

    folder: Path
    fingerprint: Fingerprint | None = None

    def __fspath__(self) -> str:
        return fspath(self.folder)


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
    config: Any = None,
    version: str | None = None,
    hub: str | None = None,
    allow_pickle: bool = False,
) -> Chosen:
    """As ``local_folder``, of names that stand for several adapters the one that fits the model.

    With a ``config``, that is one of the same method, and of these one of this very configuration if there is one.
    """
    if isinstance(name_or_path, Chosen):
        return name_or_path
    path = Path(name_or_path).expanduser()
    if path.exists() or isinstance(name_or_path, PathLike):
        return Chosen(path)
    from adapterhub.hub.client.resolving import Wanted, is_identifier
    from adapterhub.hub.inspecting import config_hash

    if not is_identifier(str(name_or_path)):
        return Chosen(path)
    fingerprint = native.fingerprint(model)
    asked = None if config is None else load_config(config)
    wanted = Wanted(
        fingerprint.name or None,
        fingerprint,
        method=None if asked is None else asked.method,
        config_hash=None if asked is None else config_hash(asked.to_dict()),
        version=version,
    )
    return Chosen(local_folder(name_or_path, wanted, hub=hub, allow_pickle=allow_pickle), fingerprint)
