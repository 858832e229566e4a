"""Signatures by Sigstore identities: by who signed in (OpenID Connect), not by a key; with the package sigstore."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from adapterhub.errors import SignatureError
from adapterhub.hub import signing
from adapterhub.hub.inspecting.signatures import Signature

_ISSUERS = ("1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1")  # of Fulcio: the present extension, and the one before


@dataclass(frozen=True)
class Identity:
    """Who signed: an e-mail address or the address of a workflow, and who says that it is they."""

    name: str
    issuer: str


def sign(files: Mapping[str, str]) -> bytes:
    """The content of ``model.sig`` for files (SHA-256 by path), by whom the environment or a browser says one is.

    Asks Sigstore for a certificate, and puts the signature into its public log: that needs the network.

    Raises:
        SignatureError: if Sigstore does not know one, or does not answer.
    """
    _sigstore()
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    try:
        trust = ClientTrustConfig.production()
        ambient = detect_credential()
        token = IdentityToken(ambient) if ambient else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            return signer.sign_dsse(Statement(signing.payload(files))).to_json().encode()
    except Exception as error:  # of the network, of TUF, of OpenID Connect, of the log
        raise SignatureError(
            f"Sigstore did not sign: {error or type(error).__name__}. Sign with a key instead"
        ) from error


def identity(signature: Signature) -> Identity:
    """Who made a signature, by the certificates and logs of Sigstore that the package has; nothing is asked for.

    Raises:
        SignatureError: if the package is not installed, or if the signature is not by whom it says.
    """
    return _identity(signature.bundle, signature.payload)


@lru_cache(1024)
def _identity(bundle: bytes, payload: bytes) -> Identity:
    _sigstore()
    from sigstore.models import Bundle
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity as Policy

    try:
        read = Bundle.from_json(bundle)
        claimed = _of(read.signing_certificate)
        _, signed = Verifier.production(offline=True).verify_dsse(read, Policy(identity=claimed.name))
        if signed != payload:
            raise ValueError("it is over another statement")
        return claimed
    except Exception as error:  # the package raises of many kinds for what is malformed
        raise SignatureError(f"the signature is not by a Sigstore identity: {error or type(error).__name__}") from error


def is_installed() -> bool:
    """Whether identities can be checked here."""
    try:
        _sigstore()
    except SignatureError:
        return False
    return True


def _of(certificate: Any) -> Identity:
    from cryptography.x509 import ObjectIdentifier, RFC822Name, SubjectAlternativeName, UniformResourceIdentifier

    extensions = certificate.extensions
    names = extensions.get_extension_for_class(SubjectAlternativeName).value
    (name,) = names.get_values_for_type(RFC822Name) + names.get_values_for_type(UniformResourceIdentifier)
    present, before = ([one.value.value for one in extensions if one.oid == ObjectIdentifier(oid)] for oid in _ISSUERS)
    return Identity(str(name), (_utf8_string(present[0]) if present else before[0]).decode())


def _utf8_string(der: bytes) -> bytes:
    return der[2:] if der[1] < 0x80 else der[2 + (der[1] & 0x7F) :]


def _sigstore() -> None:
    try:
        import sigstore  # noqa: F401
    except ImportError as error:
        raise SignatureError("Sigstore identities need the package sigstore: pip install 'adapterhub[sign]'") from error
