"""What the hub finds out about signatures: whose they are, and that broken ones do not come in."""

import hashlib
import json
from pathlib import Path

import pytest

from adapterhub.errors import HubAccessError, HubConflictError, SignatureError, UploadRefusedError
from adapterhub.hub import identities, signing
from adapterhub.hub.server import accounts, blobs, commits, repositories, signatures, signing_keys
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.commits import Message, Put, Remove
from adapterhub.hub.server.database import Commit
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.signatures import Signed
from hub import keys
from hub.server.adapter_files import lora


def publish(hub: Hub, actor: Actor, files: dict[str, bytes], owner: str = "", gone: tuple[str, ...] = ()) -> Commit:
    """A commit of files to ``NAME/a``, which is made if need be."""
    owner = owner or actor.name
    try:
        with hub.database.write() as session:
            repositories.create(session, actor, owner, "a")
    except HubConflictError:
        pass
    puts = [Put(path, blobs.receive(hub, actor, data, path)) for path, data in files.items()]
    return commits.publish(hub, actor, owner, "a", "main", [*puts, *map(Remove, gone)], Message("Push"))


def signed(files: dict[str, bytes], key: Path) -> dict[str, bytes]:
    """The files, and a signature over them."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    return files | {"model.sig": signing.sign(digests, key)}


def state(hub: Hub, actor: Actor, owner: str = "") -> Signed:
    """What the hub says of the newest commit."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner or actor.name, "a")
        return signatures.of(session, hub, repository, repositories.revision(session, repository, "main"))


def register(hub: Hub, actor: Actor, public: Path, name: str = "laptop", account: str = "") -> int:
    """Add a key; its number."""
    with hub.database.write() as session:
        whose = accounts.account(session, account or actor.name)
        return signing_keys.add(session, actor, whose, name, public.read_text()).id


def test_a_signature_is_valid_while_its_key_is_there(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    files = lora()
    publish(hub, ann, files)
    assert state(hub, ann) == Signed()
    first = publish(hub, ann, signed(files, mine))
    assert state(hub, ann).state == "unknown key"
    number = register(hub, ann, theirs)
    said = state(hub, ann)
    assert (said.state, said.by, said.key, said.at) == ("valid", "ann", "laptop", first.created)
    assert said.fingerprint == hashlib.sha256(theirs.read_bytes()).hexdigest()
    publish(hub, ann, {"README.md": files["README.md"] + b"\nMore.\n"})
    assert state(hub, ann) == said, "an edited card changes the signature, or when it came"
    with hub.database.write() as session:
        signing_keys.remove(session, ann, number)
    assert state(hub, ann).state == "unknown key"


def test_files_that_are_not_those_that_were_signed_are_refused(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    register(hub, ann, theirs)
    files = signed(lora(), mine)
    altered = bytearray(files["adapter_model.safetensors"])
    altered[-1] ^= 1
    with pytest.raises(
        UploadRefusedError, match=r"over other bytes of 'adapter_model.safetensors'.*Sign the files again"
    ):
        publish(hub, ann, files | {"adapter_model.safetensors": bytes(altered)})
    publish(hub, ann, files)
    with pytest.raises(UploadRefusedError, match="over other bytes"):
        publish(hub, ann, {"adapter_model.safetensors": bytes(altered)})
    with pytest.raises(UploadRefusedError, match=r"is not over 'notes.md'"):
        publish(hub, ann, {"notes.md": b"# Notes"})
    publish(hub, ann, {"adapter_model.safetensors": bytes(altered)}, gone=("model.sig",))
    assert state(hub, ann) == Signed()


def test_a_signature_that_names_a_key_is_by_that_key(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    (mine, _), (_, named) = keys.write(tmp_path, "mine"), keys.write(tmp_path, "other")
    files = signed(lora(), mine)
    forged = json.loads(files["model.sig"])
    forged["verificationMaterial"]["publicKey"]["hint"] = signing.public_key(named.read_text())[1]
    files["model.sig"] = json.dumps(forged).encode()
    publish(hub, ann, files)
    register(hub, ann, named)
    assert state(hub, ann).state == "broken"
    with pytest.raises(UploadRefusedError, match="not by the key laptop of ann"):
        publish(hub, ann, files | {"README.md": files["README.md"] + b"\n"})


def test_the_keys_of_strangers_say_nothing(hub: Hub, ann: Actor, bob: Actor, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    register(hub, bob, theirs)
    publish(hub, ann, signed(lora(), mine))
    assert state(hub, ann).state == "unknown key"
    with pytest.raises(HubAccessError), hub.database.write() as session:
        signing_keys.add(session, bob, accounts.account(session, "ann"), "x", theirs.read_text())


def test_members_who_publish_sign_with_their_own_keys(hub: Hub, ann: Actor, bob: Actor, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    with hub.database.write() as session:
        lab = accounts.add_organisation(session, "lab", ann.id or 0)
        accounts.set_role(session, lab, accounts.account(session, "bob"), "write")
    register(hub, bob, theirs)
    publish(hub, bob, signed(lora(), mine), "lab")
    assert (state(hub, bob, "lab").state, state(hub, bob, "lab").by) == ("valid", "bob")
    register(hub, ann, theirs, "release", "lab")
    assert (state(hub, bob, "lab").by, state(hub, bob, "lab").key) == ("lab", "release")
    with hub.database.write() as session:
        accounts.set_role(session, accounts.account(session, "lab"), accounts.account(session, "bob"), "read")
        signing_keys.remove(session, ann, signing_keys.of(session, accounts.account(session, "lab"))[0].id)
    assert state(hub, ann, "lab").state == "unknown key"


def test_a_key_is_a_public_one_and_there_once(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    register(hub, ann, theirs)
    with pytest.raises(HubConflictError, match="already"):
        register(hub, ann, theirs)
    with pytest.raises(SignatureError, match="no public key"):
        register(hub, ann, mine)


def test_sigstore_identities_are_checked_where_the_package_is(
    hub: Hub, ann: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = signed(lora(), keys.write(tmp_path, "key")[0])
    bundle = json.loads(files["model.sig"])
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "MIIB"}, "tlogEntries": []}
    files["model.sig"] = json.dumps(bundle).encode()
    with pytest.raises(UploadRefusedError, match="not by a Sigstore identity"):
        publish(hub, ann, files)
    monkeypatch.setattr(identities, "is_installed", lambda: False)
    publish(hub, ann, files)
    assert state(hub, ann).state == "unchecked"
    monkeypatch.undo()
    who = identities.Identity("ann@example.org", "https://id.example.org")
    monkeypatch.setattr(identities, "identity", lambda signature: who)
    said = state(hub, ann)
    assert (said.state, said.by, said.issuer) == ("valid", "ann@example.org", "https://id.example.org")
