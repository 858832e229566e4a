"""Signatures by keys: elliptic curves over NIST's P-256, P-384 and P-521, with the package cryptography alone."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.errors import SignatureError
from adapterhub.hub.inspecting.signatures import BUNDLE, NOT_COVERED, PAYLOAD, PREDICATE, STATEMENT, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # and the hash that goes with each
_MAKE = "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem; openssl ec -in KEY.pem -pubout -out KEY.pub"
_PASSWORD = "ADAPTERHUB_KEY_PASSWORD"


def sign(files: Mapping[str, str], private: Path) -> bytes:
    """The content of ``model.sig`` for files (SHA-256 by path), by the private key in a PEM file.

    The password of an encrypted key is that of ``ADAPTERHUB_KEY_PASSWORD``.

    Raises:
        SignatureError: for a key that cannot be read, or is of another kind.
    """
    serialization = _cryptography()
    password = os.environ.get(_PASSWORD)
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), password.encode() if password else None)
        public = _curve(key.public_key())
    except (OSError, ValueError, TypeError) as error:
        raise SignatureError(f"{private} is no private key to sign with: {error}. Make one: {_MAKE}") from error
    unsigned = Signature(b"", payload(files), b"", _fingerprint(public), files)
    return json.dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": unsigned.key}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(unsigned.payload).decode(),
                "payloadType": PAYLOAD,
                "signatures": [
                    {"sig": base64.b64encode(key.sign(unsigned.message, _ecdsa(public))).decode(), "keyid": ""}
                ],
            },
        }
    ).encode()


def payload(files: Mapping[str, str]) -> bytes:
    """The statement that is signed: files by path with their SHA-256."""
    covered = {path: sha256 for path, sha256 in sorted(files.items()) if path not in NOT_COVERED}
    total = hashlib.sha256(b"".join(map(bytes.fromhex, covered.values()))).hexdigest()
    left_out = sorted({*NOT_COVERED, ".git", ".github"})
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": left_out}
    resources = [{"name": path, "algorithm": "sha256", "digest": sha256} for path, sha256 in covered.items()]
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": "adapter", "digest": {"sha256": total}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }
    return json.dumps(statement).encode()


def public_key(text: str) -> tuple[str, str]:
    """A public key in its one spelling as PEM, and its fingerprint: the SHA-256 of that.

    Raises:
        SignatureError: for a key of another kind, a private one say.
    """
    key = _public(text)
    return _pem(key).decode(), _fingerprint(key)


def is_by(signature: Signature, public: str) -> bool:
    """Whether the owner of a public key (PEM) made a signature."""
    from cryptography.exceptions import InvalidSignature

    key = _public(public)
    if signature.key != _fingerprint(key):
        return False
    try:
        key.verify(signature.value, signature.message, _ecdsa(key))
    except InvalidSignature:
        return False
    return True


def _public(text: str) -> "EllipticCurvePublicKey":
    serialization = _cryptography()
    try:
        return _curve(serialization.load_pem_public_key(text.encode()))
    except ValueError as error:
        raise SignatureError(
            f"this is no public key of an elliptic curve, as PEM: {error}. Make one: {_MAKE}"
        ) from error


def _curve(key: Any) -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise ValueError("it has to be one of P-256, P-384 or P-521")
    return key


def _ecdsa(key: "EllipticCurvePublicKey") -> "ECDSA":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    return ECDSA(getattr(hashes, _CURVES[key.curve.name])())


def _pem(key: "EllipticCurvePublicKey") -> bytes:
    serialization = _cryptography()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(key: "EllipticCurvePublicKey") -> str:
    return hashlib.sha256(_pem(key)).hexdigest()


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise SignatureError("signatures need the package cryptography: pip install 'adapterhub[sign]'") from error
    return serialization
