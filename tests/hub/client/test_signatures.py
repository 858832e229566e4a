"""Signed adapters over a hub that runs: signed, published, shown, demanded."""

import json
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi

import adapterhub
from adapterhub.composition import Stack
from adapterhub.errors import HubNotFoundError, SignatureError, UploadRefusedError
from hub import keys
from hub.server.adapter_files import lora, write
from hub.server.running import Running, run
from hub.test_signing import without_network

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "adapter", lora())


def register(hub: Running, user: str, public: Path) -> None:
    answer = httpx.post(
        f"{hub.url}/api/v1/accounts/{user}/keys",
        json={"name": "laptop", "public_key": public.read_text()},
        headers={"Authorization": f"Bearer {hub.token(user, 'admin')}"},
    )
    assert answer.status_code == 201, answer.text


def test_who_signed_is_shown_and_can_be_demanded(ann: Running, folder: Path, tmp_path: Path) -> None:
    (mine, theirs), (_, other) = keys.write(tmp_path, "key"), keys.write(tmp_path, "other")
    register(ann, "ann", theirs)
    register(ann, "bob", other)
    done = adapterhub.push(folder, "ann/signed", sign_with=mine)
    said = adapterhub.get_adapter_info("ann/signed")["signature"]
    assert (said["state"], said["by"], said["key"]) == ("valid", "ann", "laptop")
    page = httpx.get(done.url).text
    assert "the files are signed by key laptop of ann" in page
    assert adapterhub.pull("@ann/signed", signed_by="ann").signed == "by key laptop of ann"
    assert adapterhub.pull("@ann/signed", verify_key=theirs).signed == f"by the key in {theirs}"
    for demand in ({"signed_by": "bob"}, {"verify_key": other}, {"signed_by": "ann", "verify_key": other}):
        with pytest.raises(SignatureError, match="is not signed by"):
            adapterhub.pull("@ann/signed", **demand)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="is signed by a key"):
        adapterhub.pull("@ann/signed", signed_by="ann@example.org", issuer="https://id.example.org")


def test_what_is_not_signed_is_not_taken_where_that_is_demanded(ann: Running, folder: Path, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    adapterhub.push(folder, "ann/plain")
    for demand in ({"signed_by": "ann"}, {"verify_key": theirs}):
        with pytest.raises(SignatureError, match="is not signed"):
            adapterhub.pull("@ann/plain", **demand)  # type: ignore[arg-type]
    (folder / "notes.md").write_text("# Notes")
    adapterhub.push(folder, "ann/plain", sign_with=mine)
    (folder / "notes.md").unlink()
    adapterhub.push(folder, "ann/plain", sign_with=mine)
    found = adapterhub.pull("@ann/plain", verify_key=theirs).found
    assert found is not None and "notes.md" not in found.files
    adapterhub.push(write(tmp_path / "new", lora(rank=4)), "ann/plain")
    with pytest.raises(SignatureError, match="is not signed"):
        adapterhub.pull("@ann/plain", verify_key=theirs)


def test_a_byte_that_was_altered_is_found_by_the_hub_and_here(ann: Running, folder: Path, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    adapterhub.push(folder, "ann/altered", sign_with=mine)
    altered = bytearray((folder / WEIGHTS).read_bytes())
    altered[-1] ^= 1
    api = HfApi(endpoint=ann.url, token=ann.token("ann"))
    with pytest.raises(Exception, match="over other bytes"):
        api.upload_file(path_or_fileobj=bytes(altered), path_in_repo=WEIGHTS, repo_id="ann/altered")
    pulled = adapterhub.pull("@ann/altered", verify_key=theirs)
    for name, data, match in (
        (WEIGHTS, bytes(altered), "over other bytes of"),
        ("extra.safetensors", bytes(altered), "not over 'extra"),
    ):
        there = pulled.folder / name
        kept = there.read_bytes() if there.exists() else None
        there.unlink(missing_ok=True)  # a link to what was fetched
        there.write_bytes(data)
        with pytest.raises(SignatureError, match=match):
            adapterhub.pull("@ann/altered", verify_key=theirs)
        there.unlink()
        if kept is not None:
            there.write_bytes(kept)
    assert adapterhub.pull("@ann/altered", verify_key=theirs).signed
    (folder / "model.sig").write_bytes((pulled.folder / "model.sig").read_bytes())
    (folder / WEIGHTS).write_bytes(altered)
    with pytest.raises(UploadRefusedError, match="over other bytes"):
        adapterhub.push(folder, "ann/altered")


def test_commands_sign_and_demand(ann: Running, folder: Path, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    run("push", str(folder), "ann/commands", "--sign-with", str(mine))
    there = run("pull", "@ann/commands", "--verify-key", str(theirs), "--json")
    assert "which was checked here" in there
    assert "the hub says of it: unknown key" in run("pull", "@ann/commands", "--json")
    with pytest.raises(AssertionError, match="is not signed by"):
        run("pull", "@ann/commands", "--verify-key", str(keys.write(tmp_path, "other")[1]))


def test_the_parts_of_a_composition_have_to_be_signed_too(ann: Running, folder: Path, tmp_path: Path) -> None:
    mine, theirs = keys.write(tmp_path, "key")
    parts = [adapterhub.push(folder, "ann/one", sign_with=mine), adapterhub.push(folder, "ann/two")]
    recipe = {
        "format": "adapterhub-composition",
        "version": 1,
        "base": "roberta-base",
        "members": {name: f"ann/{name}@{one.commit}" for name, one in zip(("one", "two"), parts, strict=True)},
        "composition": Stack("one", "two").to_dict(),
    }
    made = write(tmp_path / "both", {"composition.json": json.dumps(recipe).encode()})
    adapterhub.push(made, "ann/composed", sign_with=mine)
    with pytest.raises(SignatureError, match=r"ann/two at .* is not signed"):
        adapterhub.pull("@ann/composed", verify_key=theirs)
    recipe["members"] |= {"two": f"ann/two@{adapterhub.push(folder, 'ann/two', sign_with=mine).commit}"}  # type: ignore[operator]
    write(made, {"composition.json": json.dumps(recipe).encode()})
    adapterhub.push(made, "ann/composed", sign_with=mine)
    assert adapterhub.pull("@ann/composed", verify_key=theirs).signed


def test_nothing_is_published_that_could_not_be_signed(
    ann: Running, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_network(tmp_path, monkeypatch)
    with pytest.raises(SignatureError, match="Sigstore did not sign"):
        adapterhub.push(folder, "ann/by-sigstore", sign_with="sigstore")
    assert not (folder / "model.sig").exists()
    with pytest.raises(HubNotFoundError):
        adapterhub.get_adapter_info("ann/by-sigstore")
