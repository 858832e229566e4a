"""Bringing adapters here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.client import cache
from adapterhub.hub.client.resolving import Found, OnHuggingFace, Wanted, resolve

_FILES = ["*.json", "*.safetensors"]


@dataclass(frozen=True)
class Pulled:
    """An adapter that is here.

    Attributes:
        folder: its files.
        found: what it is on its hub, or None for one of the Hugging Face Hub.
    """

    folder: Path
    found: Found | None


def pull(
    text: str,
    wanted: Wanted | None = None,
    *,
    hub: str | None = None,
    allow_pickle: bool = False,
    where: Mapping[str, Any] | None = None,
) -> Pulled:
    """Fetch the adapter that a name stands for, unless it is here already.

    Args:
        text: a name as ``adapterhub.hub.ids`` has them, or the address of a page of a hub.
        wanted: what it has to fit.
        hub: the address of a hub, if no other shall be asked.
        allow_pickle: fetch pickles from the Hugging Face Hub, too; other hubs have none.
        where: ``revision``, ``token``, ``cache_dir`` and other arguments of ``snapshot_download``, for that hub.

    Raises:
        HubError: as ``resolve``, or if what comes is not what its SHA-256 stands for.
    """
    found = resolve(text, wanted or Wanted(), hub)
    if isinstance(found, OnHuggingFace):
        return Pulled(_from_hugging_face(found, allow_pickle, where or {}), None)
    return Pulled(cache.fetch(found.hub, found.repository, found.commit, found.files), found)


def _from_hugging_face(found: OnHuggingFace, allow_pickle: bool, where: Mapping[str, Any]) -> Path:
    patterns = [*_FILES, "*.bin"] if allow_pickle else _FILES
    given = ({"revision": found.revision} if found.revision else {}) | dict(where)
    try:
        return Path(snapshot_download(found.repository, allow_patterns=patterns, **given))
    except Exception as error:  # of that hub, of the network, of names that cannot be
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise HubNotFoundError(
            f"{found.repository!r} is on none of the hubs known here, and no repository on the Hugging Face Hub that "
            f"can be read: {reason}"
        ) from error
