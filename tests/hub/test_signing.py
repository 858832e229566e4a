"""Signatures by keys are those of OpenSSF Model Signing, in both directions, and are over all files but the card."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from adapterhub.errors import SignatureError, UploadRefusedError
from adapterhub.hub import identities, signing
from adapterhub.hub.identities import Identity
from adapterhub.hub.inspecting import check_file, check_type, signatures
from hub import keys

FILES = {"adapter_config.json": b"{}", "parts/adapter.safetensors": b"weights", "README.md": b"# A card"}
CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "adapter"
    for path, data in FILES.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(data)
    return made


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_what_we_sign_others_verify(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    mine, theirs = keys.write(tmp_path, "key", keys.private(curve))
    made = folder / "model.sig"
    made.write_bytes(signing.sign(digests(FILES), mine))
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=theirs)
    verifier.verify(folder, made)
    (folder / "README.md").write_text("# Another card")
    verifier.verify(folder, made)
    (folder / "adapter_config.json").write_text("{ }")
    with pytest.raises(ValueError, match="Signature mismatch"):
        verifier.verify(folder, made)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_what_others_sign_we_verify(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    mine, theirs = keys.write(tmp_path, "key", keys.private(curve))
    model_signing.signing.Config().use_elliptic_key_signer(private_key=mine).sign(folder, tmp_path / "model.sig")
    signature = signatures.read((tmp_path / "model.sig").read_bytes())
    signatures.check_covers(signature, digests(FILES))
    assert signing.is_by(signature, theirs.read_text())
    assert not signing.is_by(signature, keys.public(keys.private(curve)))


def test_a_signature_is_over_these_files_and_no_others(tmp_path: Path) -> None:
    signature = signatures.read(signing.sign(digests(FILES), keys.write(tmp_path, "key")[0]))
    signatures.check_covers(signature, digests(FILES | {"README.md": b"new", "model.sig": b"x"}))
    with pytest.raises(UploadRefusedError, match=r"over other bytes of 'parts/adapter.safetensors'"):
        signatures.check_covers(signature, digests(FILES | {"parts/adapter.safetensors": b"Weights"}))
    with pytest.raises(UploadRefusedError, match=r"not over 'more.json'"):
        signatures.check_covers(signature, digests(FILES | {"more.json": b"{}"}))
    with pytest.raises(UploadRefusedError, match=r"over 'adapter_config.json', which is not there"):
        signatures.check_covers(signature, digests({"parts/adapter.safetensors": b"weights"}))


def test_a_statement_that_was_changed_is_by_nobody(tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    bundle = json.loads(signing.sign(digests(FILES), mine))
    envelope = bundle["dsseEnvelope"]
    other = signing.payload(digests(FILES | {"parts/adapter.safetensors": b"Weights"}))
    envelope["payload"] = base64.b64encode(other).decode()
    assert not signing.is_by(signatures.read(json.dumps(bundle).encode()), theirs.read_text())


def test_a_key_may_have_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = keys.write(tmp_path, "key", password="secret")
    with pytest.raises(SignatureError, match="no private key to sign with"):
        signing.sign(digests(FILES), mine)
    monkeypatch.setenv("ADAPTERHUB_KEY_PASSWORD", "secret")
    assert signing.is_by(signatures.read(signing.sign(digests(FILES), mine)), theirs.read_text())


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    mine, _ = keys.write(tmp_path, "key")
    other = rsa.generate_private_key(65537, 2048)
    foreign = keys.public(keys.private(ec.SECP256K1()))
    for text in (mine.read_text(), "no key", keys.public(other), foreign):  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match="public key"):
            signing.public_key(text)
    for path in (tmp_path / "key.pub", tmp_path / "absent.pem"):
        with pytest.raises(SignatureError, match="private key"):
            signing.sign(digests(FILES), path)


def _statement(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """What changes the statement inside of a bundle."""

    def changed(bundle: Any) -> None:
        envelope = bundle["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return changed


BROKEN: dict[str, Callable[[Any], Any]] = {
    "more": lambda one: one.update(more=1),
    "media type": lambda one: one.update(mediaType="text/plain"),
    "payload type": lambda one: one["dsseEnvelope"].update(payloadType="text/plain"),
    "no key": lambda one: one["verificationMaterial"].pop("publicKey"),
    "chain": lambda one: one["verificationMaterial"].update(x509CertificateChain={}),
    "two signatures": lambda one: one["dsseEnvelope"]["signatures"].append({"sig": ""}),
    "no base64": lambda one: one["dsseEnvelope"].update(payload="%"),
    "a list": lambda one: one.update(dsseEnvelope=[]),
    "predicate": _statement(lambda one: one.update(predicateType="x")),
    "shards": _statement(lambda one: one["predicate"]["serialization"].update(method="shards")),
    "sum": _statement(lambda one: one["subject"][0]["digest"].update(sha256="0" * 64)),
    "twice": _statement(lambda one: one["predicate"]["resources"].append(one["predicate"]["resources"][0])),
    "algorithm": _statement(lambda one: one["predicate"]["resources"][0].update(algorithm="blake2b")),
    "resources": _statement(lambda one: one["predicate"].update(resources=7)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_signature_is_refused(tmp_path: Path, name: str) -> None:
    bundle = json.loads(signing.sign(digests(FILES), keys.write(tmp_path, "key")[0]))
    BROKEN[name](bundle)
    with pytest.raises(UploadRefusedError, match=r"model.sig.*(Sign the files again|Write it again)"):
        check_file("model.sig", io.BytesIO(json.dumps(bundle).encode()))


def test_a_signature_has_one_name_and_a_size(tmp_path: Path) -> None:
    made = signing.sign(digests(FILES), keys.write(tmp_path, "key")[0])
    check_type("model.sig")
    check_file("model.sig", io.BytesIO(made))
    for path in ("other.sig", "parts/model.sig", "MODEL.SIG"):
        with pytest.raises(UploadRefusedError, match=r"a signature is 'model.sig'"):
            check_type(path)
        with pytest.raises(UploadRefusedError, match=r"a signature is 'model.sig'"):
            check_file(path, io.BytesIO(made))
    with pytest.raises(UploadRefusedError, match="may be 262,144"):
        check_file("model.sig", io.BytesIO(made + b" " * signatures.SIGNATURE_BYTES))


def test_a_certificate_that_is_not_of_sigstore_says_nothing(tmp_path: Path) -> None:
    signature = signatures.read(certified(tmp_path))
    assert signature.key is None
    with pytest.raises(SignatureError, match="not by a Sigstore identity"):
        identities.identity(signature)


def certified(folder: Path) -> bytes:
    """A signature with a certificate in the place of a key, which Sigstore has not given out."""
    bundle = json.loads(signing.sign(digests(FILES), keys.write(folder, "key")[0]))
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "MIIB"}, "tlogEntries": []}
    return json.dumps(bundle).encode()


@pytest.mark.parametrize(("oid", "value"), [("8", b"\x0c\x16https://id.example.org"), ("1", b"https://id.example.org")])
def test_who_a_certificate_is_for(oid: str, value: bytes) -> None:
    """As Fulcio writes them: the issuer as UTF8String, and before that as plain bytes."""
    key, now = keys.private(ec.SECP256R1()), datetime.now(UTC)
    nobody = x509.Name([])
    names = x509.SubjectAlternativeName([x509.RFC822Name("ann@example.org")])
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{oid}"), value)
    made = x509.CertificateBuilder(nobody, nobody, key.public_key(), 1, now, now + timedelta(minutes=10))
    made = made.add_extension(names, critical=True).add_extension(extension, critical=False)
    assert identities._of(made.sign(key, hashes.SHA256())) == Identity("ann@example.org", "https://id.example.org")


def test_who_cannot_reach_sigstore_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(tmp_path, monkeypatch)
    with pytest.raises(SignatureError, match=r"Sigstore did not sign: .*\. Sign with a key instead"):
        identities.sign(digests(FILES))


def without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was fetched before, and nobody who answers."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
