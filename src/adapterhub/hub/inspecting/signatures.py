"""``model.sig``: the signature of a publisher over the files of an adapter, in the format of OpenSSF Model Signing.

A Sigstore bundle (version 0.3) with a DSSE envelope around an in-toto statement that lists files with their SHA-256.
Here it is read, and compared with the files; ``adapterhub.hub.signing`` tells whether the key made it.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.strict_json import parse_object

SIGNATURE = "model.sig"
SIGNATURE_BYTES = 256 * 1024
NOT_COVERED = frozenset({SIGNATURE, "README.md", ".gitattributes", ".gitignore"})  # may change without a new signature
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True)
class Signature:
    """What a signature says; not yet whether it is true.

    Attributes:
        bundle: the whole file.
        payload: the bytes that are signed.
        value: the signature over them.
        key: the fingerprint of the public key that it was made with, or None for one of a Sigstore identity.
        files: the SHA-256 of the files that it is over, by path.
    """

    bundle: bytes
    payload: bytes
    value: bytes
    key: str | None
    files: Mapping[str, str]

    @property
    def message(self) -> bytes:
        """What the key signs: the payload with its type and length before it (PAE of DSSE)."""
        return f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(self.payload)} ".encode() + self.payload


def read(data: bytes, where: str = SIGNATURE) -> Signature:
    """A signature of a key or of a Sigstore identity.

    Raises:
        UploadRefusedError: for anything else.
    """
    try:
        bundle = parse_object(data, where)
        _only(where, bundle, "mediaType", "verificationMaterial", "dsseEnvelope")
        material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
        _only(where, material, "publicKey", "certificate", "tlogEntries", "timestampVerificationData")
        _only(where, envelope, "payload", "payloadType", "signatures")
        if (bundle["mediaType"], envelope["payloadType"]) != (BUNDLE, PAYLOAD):
            _refuse(where, f"is no {BUNDLE} with {PAYLOAD} in it")
        if ("publicKey" in material) == ("certificate" in material):
            _refuse(where, "must name one public key, or hold one certificate")
        (signature,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        value = base64.b64decode(signature["sig"], validate=True)
        key = str(material["publicKey"]["hint"]) if "publicKey" in material else None
        return Signature(data, payload, value, key, _files(where, parse_object(payload, f"{where}, its payload")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UploadRefusedError):
            raise
        _refuse(where, f"is no signature of OpenSSF Model Signing: {error!r}")


def check_covers(signature: Signature, files: Mapping[str, str]) -> None:
    """Pass a signature that is over these files, as ``mismatch`` tells.

    Raises:
        UploadRefusedError: for any other, with what to do.
    """
    if (why := mismatch(signature, files)) is not None:
        _refuse(SIGNATURE, why)


def mismatch(signature: Signature, files: Mapping[str, str]) -> str | None:
    """Why a signature is not over these files (SHA-256 by path), all but those of ``NOT_COVERED``; None if it is.

    Of several the first file is told that is another one than was signed, missing, or not signed.
    """
    for path, sha256 in sorted(signature.files.items()):
        if path not in files:
            return f"is over {path!r}, which is not there"
        if files[path] != sha256:
            return f"is over other bytes of {path!r} (SHA-256 {sha256}, and they are {files[path]})"
    unsigned = sorted(set(files) - set(signature.files) - NOT_COVERED)
    return f"is not over {unsigned[0]!r}" if unsigned else None


def _files(where: str, statement: Mapping[str, Any]) -> dict[str, str]:
    """The files that a statement lists, after its own sum over them was checked."""
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        _refuse(where, f"holds no statement of {PREDICATE}")
    predicate = statement["predicate"]
    resources, serialization = predicate["resources"], predicate["serialization"]
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        _refuse(where, "must be over whole files, by their SHA-256")
    (subject,) = statement["subject"]
    files = {str(one["name"]): bytes.fromhex(one["digest"]) for one in resources if one["algorithm"] == "sha256"}
    if len(files) != len(resources) or any(len(digest) != 32 for digest in files.values()):
        _refuse(where, "names a file twice, or by something else than its SHA-256")
    if hashlib.sha256(b"".join(files.values())).hexdigest() != subject["digest"]["sha256"]:
        _refuse(where, "lists files whose sum is another one than it says")
    return {path: digest.hex() for path, digest in files.items()}


def _only(where: str, value: Mapping[str, Any], *names: str) -> None:
    if more := sorted(set(value) - set(names)):
        _refuse(
            where, f"holds {more[0]!r}, which the format does not have, or not for signatures by keys and identities"
        )


def _refuse(where: str, why: str) -> NoReturn:
    raise UploadRefusedError(
        f"{where} {why}. Sign the files again (adapterhub push --sign-with KEY.pem), or delete it in the same commit"
    )
