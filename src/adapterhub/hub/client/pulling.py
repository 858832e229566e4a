"""Bringing adapters here."""

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from adapterhub.errors import CheckpointError, HubNotFoundError, SignatureError
from adapterhub.files import make_folder
from adapterhub.hub.client import addresses, cache, recipes, signatures, zips
from adapterhub.hub.client.resolving import Found, OnHuggingFace, Wanted, resolve
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.lock import Lock, LockedAdapter, pin
from adapterhub.hub.recipe import RECIPE

_FILES = ["*.json", "*.safetensors"]


@dataclass(frozen=True)
class Pulled:
    """An adapter that is here.

    Attributes:
        folder: its files.
        found: what it is on its hub, or None for one of the Hugging Face Hub, and for a zip file.
        signed: by whom it is signed, if that was demanded.
    """

    folder: Path
    found: Found | None
    signed: str | None = None


def pull(
    text: str,
    wanted: Wanted | None = None,
    *,
    hub: str | None = None,
    lock: Path | None = None,
    allow_pickle: bool = False,
    where: Mapping[str, Any] | None = None,
    signed_by: str | None = None,
    issuer: str | None = None,
    verify_key: Path | None = None,
) -> Pulled:
    """Fetch the adapter that a name stands for, unless it is here already; a composition with all that it is made of.

    Args:
        text: a name as ``adapterhub.hub.ids`` has them, the address of a page of a hub, or that of a zip file, as
            AdapterHub gave them out (with ``#sha256=...`` at its end it has to be that one; locks know none of these).
        wanted: what it has to fit.
        hub: the address of a hub, if no other shall be asked.
        lock: a file that says which commit and bytes a name stands for, and is told of a name that it does not know;
            by default that of ``ADAPTERHUB_LOCK``, or none.
        allow_pickle: fetch pickles from the Hugging Face Hub, too; other hubs have none.
        where: ``revision``, ``token``, ``cache_dir`` and other arguments of ``snapshot_download``, for that hub.
        signed_by: the account that has to have signed it, by one of the keys that the hub lists for that account; with
            ``issuer``, the Sigstore identity.
        issuer: who has to say that the Sigstore identity is they.
        verify_key: the file of a public key (PEM) that it has to be signed with; the hub is not asked for keys.

    Raises:
        SignatureError: if it is not signed by whom that was demanded of; a composition, and each of its parts.
        HubError: as ``resolve``, or if what comes is not what its SHA-256 stands for.
    """
    demanded = signatures.demand(signed_by, verify_key, issuer)
    if zips.is_zip(text):
        if demanded is not None:
            raise SignatureError(f"{text} is a zip file: signatures are checked of adapters of a hub")
        return Pulled(zips.fetch(text), None)
    lock = lock or (Path(given) if (given := os.environ.get("ADAPTERHUB_LOCK")) else None)
    known = found = None if lock is None else _locked(lock, text)
    if found is None:
        there = resolve(text, wanted or Wanted(), hub)
        if isinstance(there, OnHuggingFace):
            if demanded is not None:
                raise SignatureError(
                    f"{text!r} is on the Hugging Face Hub: signatures are checked of adapters of a hub"
                )
            return Pulled(_from_hugging_face(there, allow_pickle, where or {}), None)
        found = there
    folder = cache.fetch(found.hub, found.repository, found.commit, found.files)
    signed = None if demanded is None else signatures.check(found, folder, demanded)
    if lock is not None and known is None:
        adapter = LockedAdapter(found.hub.url, RepositoryId.parse(found.repository), found.commit, found.files)
        pin(lock, text, adapter)
    if RECIPE in found.files:
        url = found.hub.url
        demands: dict[str, Any] = {"signed_by": signed_by, "issuer": issuer, "verify_key": verify_key}
        folder = recipes.whole(folder, lambda member: pull(member, hub=url, lock=lock, **demands).found)
    return Pulled(folder, found, signed)


def copy(folder: Path, target: Path) -> Path:
    """Copy the files of an adapter, which are links into the cache, to a new folder.

    Raises:
        CheckpointError: if there is something at that place.
    """
    if target.exists():
        raise CheckpointError(f"{target} is there already: give a new folder, or remove that one")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    make_folder(target.parent)
    try:
        shutil.copytree(folder, temporary)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _locked(lock: Path, text: str) -> Found | None:
    known = Lock.read(lock).adapters.get(text)
    if known is None:
        return None
    return Found(addresses.address(known.hub), str(known.repository), known.commit, known.files)


def _from_hugging_face(found: OnHuggingFace, allow_pickle: bool, where: Mapping[str, Any]) -> Path:
    patterns = [*_FILES, "*.bin"] if allow_pickle else _FILES
    given = ({"revision": found.revision} if found.revision else {}) | dict(where)
    try:
        return Path(snapshot_download(found.repository, allow_patterns=patterns, **given))
    except Exception as error:  # of that hub, of the network, of names that cannot be
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        there = f"{found.repository!r} is no repository on the Hugging Face Hub that can be read: {reason}"
        raise HubNotFoundError("\n".join([*found.missing, there])) from error
