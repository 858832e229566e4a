"""Checkpoints written as ``adapters`` 1.3.0 writes them: the same tensors and options that it wrote itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from adapterhub.composition import Fuse, Stack
from goldens import ADAPTERS as FOLDER
from goldens import LABELS, expected, flexible

# A prefix is kept there once for each attention besides.
REPEATED = ".prefix_tuning.pool.prefix_tunings."


def tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    names = {"adapter": "adapter", "model_head": "model_head", "fusion": "model_adapter_fusion"}
    safe = folder / f"{names[stem]}.safetensors"
    found = load_file(safe) if safe.exists() else torch.load(folder / f"pytorch_{names[stem]}.bin", weights_only=True)
    return {key: value for key, value in found.items() if REPEATED not in key}


def check_same(written: Path, wanted: Path, stem: str, atol: float = 0) -> None:
    made, theirs = tensors(written, stem), tensors(wanted, stem)
    assert made.keys() == theirs.keys()
    for key, value in theirs.items():
        if "parametrizations" not in key and ".units." not in key:  # of which many make one and the same matrix
            torch.testing.assert_close(made[key], value, rtol=0, atol=atol)


def options(folder: Path, manifest: str) -> dict[str, Any]:
    """What a manifest says, but for the alpha of a gated LoRA, which has no effect."""
    values = json.loads((folder / manifest).read_text())
    for one in (values["config"], *values["config"].get("configs", ())):
        if one.get("architecture") == "lora" and one["use_gating"]:
            del one["alpha"]
    return values


@pytest.mark.parametrize("label", LABELS)
def test_the_bytes_are_those_that_adapters_wrote(label: str, tmp_path: Path) -> None:
    model = flexible(label.partition("-")[0])
    name = model.load_adapter(FOLDER / label, allow_pickle=True)
    model.save_adapter(tmp_path / "out", name, format="adapters")
    check_same(tmp_path / "out", FOLDER / label, "adapter")
    check_same(tmp_path / "out", FOLDER / label, "model_head")
    for manifest in ("adapter_config.json", "head_config.json"):
        assert options(tmp_path / "out", manifest) == options(FOLDER / label, manifest)


@pytest.mark.parametrize("label", LABELS)
def test_read_again_it_gives_the_same(label: str, tmp_path: Path) -> None:
    model = flexible(label.partition("-")[0])
    model.load_adapter(FOLDER / label, allow_pickle=True)
    model.save_adapter(tmp_path / "out", "task", format="adapters")
    model.load_adapter(tmp_path / "out", load_as="again", set_active=True)
    inputs, output = expected(FOLDER / label)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_a_whole_setup(tmp_path: Path) -> None:
    model = flexible("bert")
    model.load_adapter_setup(FOLDER / "bert-setup")
    model.save_adapter_setup(tmp_path / "out", Stack("a", Fuse("b", "c")), "target", format="adapters")
    files = sorted(path.relative_to(FOLDER / "bert-setup") for path in (FOLDER / "bert-setup").rglob("*.*"))
    files = [path for path in files if path.name != "expected.safetensors"]
    assert sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")) == files
    for path in files:
        if path.suffix == ".json":
            assert json.loads((tmp_path / "out" / path).read_text()) == json.loads(
                (FOLDER / "bert-setup" / path).read_text()
            )
        else:
            made, theirs = load_file(tmp_path / "out" / path), load_file(FOLDER / "bert-setup" / path)
            assert made.keys() == theirs.keys()
            assert all(torch.equal(made[key], theirs[key]) for key in made)
