"""Whether an adapter that was fetched is signed by whom it was demanded of; checked here, whatever the hub says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from adapterhub.errors import HubError, SignatureError, UploadRefusedError
from adapterhub.files import sha256_of
from adapterhub.hub import identities, signing
from adapterhub.hub.client.connection import Connection
from adapterhub.hub.client.resolving import Found
from adapterhub.hub.identities import Identity
from adapterhub.hub.inspecting import signatures
from adapterhub.hub.inspecting.signatures import SIGNATURE, Signature


@dataclass(frozen=True)
class Demand:
    """By whom an adapter has to be signed; of all that is given, each has to hold.

    Attributes:
        account: one of the hub, by one of the keys that the hub lists for it.
        key: the file of a public key (PEM), so that the hub need not be trusted.
        identity: somebody whom Sigstore knows.
    """

    account: str | None = None
    key: Path | None = None
    identity: Identity | None = None


def demand(signed_by: str | None, verify_key: Path | None, issuer: str | None) -> Demand | None:
    """What the arguments of ``pull`` demand; None if nothing."""
    if issuer is not None:
        if signed_by is None:
            raise SignatureError("an issuer says who somebody is: give the identity, too, as signed_by")
        return Demand(key=verify_key, identity=Identity(signed_by, issuer))
    return None if signed_by is None and verify_key is None else Demand(account=signed_by, key=verify_key)


def check(found: Found, folder: Path, demanded: Demand) -> str:
    """By whom an adapter is signed, in words; what is in its folder is read for that, to the last byte.

    Raises:
        SignatureError: if not by whom it was demanded of, or if it is not signed.
    """
    if SIGNATURE not in found.files:
        _refuse(found, "is not signed")
    try:
        signature = signatures.read((folder / SIGNATURE).read_bytes())
    except (OSError, UploadRefusedError) as error:
        raise SignatureError(f"the signature of {found.repository} cannot be read: {error}") from error
    here = {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    if (why := signatures.mismatch(signature, here)) is not None:
        _refuse(found, f"has a broken signature: it {why}")
    held = []
    if demanded.account is not None:
        held.append(_check_account(found, signature, demanded.account))
    if demanded.key is not None:
        held.append(_check_key(found, signature, demanded.key))
    if demanded.identity is not None:
        held.append(_check_identity(found, signature, demanded.identity))
    return " and ".join(held)


def told(found: Found) -> Mapping[str, Any]:
    """What the hub says of the signature of an adapter.

    Raises:
        HubError: if it does not answer.
    """
    if SIGNATURE not in found.files:
        return {"state": "none"}
    with Connection(found.hub) as connection:
        answer = connection.get(f"/api/v1/adapters/{found.repository}", revision=found.commit)
    signature: Mapping[str, Any] = answer.get("signature") or {"state": "unchecked"}
    return signature


def _check_account(found: Found, signature: Signature, account: str) -> str:
    try:
        with Connection(found.hub) as connection:
            listed = connection.get(f"/api/v1/accounts/{quote(account, safe='')}/keys")
    except HubError as error:
        raise SignatureError(f"the keys of {account} cannot be had: {error}. Give one with --verify-key") from error
    name = next((one["name"] for one in listed if signing.is_by(signature, one["public_key"])), None)
    if name is None:
        _refuse(found, f"is not signed by {account}: by none of the {len(listed)} keys of that account")
    return f"by key {name} of {account}"


def _check_key(found: Found, signature: Signature, key: Path) -> str:
    try:
        public = key.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SignatureError(f"{key} is no public key: {error}") from error
    if not signing.is_by(signature, public):
        _refuse(found, f"is not signed by the key in {key}")
    return f"by the key in {key}"


def _check_identity(found: Found, signature: Signature, wanted: Identity) -> str:
    if signature.key is not None:
        _refuse(found, f"is signed by a key, and not by {wanted.name}")
    if (there := identities.identity(signature)) != wanted:
        _refuse(found, f"is signed by {there.name} ({there.issuer}), and not by {wanted.name} ({wanted.issuer})")
    return f"by {wanted.name} ({wanted.issuer})"


def _refuse(found: Found, why: str) -> NoReturn:
    raise SignatureError(f"{found.repository} at {found.commit[:10]} {why}. Do not use it, or demand something else")
