"""Keys to sign with, and files to sign."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def private(curve: ec.EllipticCurve | None = None) -> EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def public(key: EllipticCurvePrivateKey) -> str:
    """The public half of it, as PEM."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


def write(folder: Path, name: str, key: EllipticCurvePrivateKey | None = None, password: str = "") -> tuple[Path, Path]:
    """The files of a new key: the private and the public half."""
    key = key or private()
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    mine, theirs = folder / f"{name}.pem", folder / f"{name}.pub"
    mine.write_bytes(pem)
    theirs.write_text(public(key))
    return mine, theirs
