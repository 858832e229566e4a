"""Smaller versions of a trained classifier: what is stored, what is measured, and the smallest that is good enough."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import CheckpointError, ConfigError, DataError
from adapterhub.training.classifier import load_classifier
from adapterhub.training.evaluation import evaluate_classifier
from adapterhub.training.shrinking import Shrinking, store, version

NAMES = {"label_names": ("bad", "good")}


@pytest.fixture
def shrinking(adapter: Path, labelled: Path) -> Shrinking:
    return Shrinking(adapter, str(labelled), data_options=NAMES)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    manifest = read(folder, ADAPTER_MANIFEST)
    return {f"{kind}.{name}": one for kind in ("adapter", "head") for name, one in manifest.tensors(kind).items()}


def test_an_adapter_is_stored_again_with_all_that_is_said_of_it(adapter: Path, tmp_path: Path) -> None:
    made = store(adapter, tmp_path / "small", "int8")
    assert made == version(tmp_path / "small", 1.0) and made.dtype == "int8"
    assert made.parameters == version(adapter, 1.0).parameters
    whole, small = tensors(adapter), tensors(tmp_path / "small")
    for name, values in whole.items():
        torch.testing.assert_close(small[name], values, rtol=0, atol=float(values.abs().max()) / 250)
    said = [json.loads((folder / ADAPTER_MANIFEST).read_text()) for folder in (adapter, tmp_path / "small")]
    assert said[0]["meta"] == said[1]["meta"] and said[0]["base_model"] == said[1]["base_model"]
    assert load_classifier(tmp_path / "small")[0].get_labels() == ["bad", "good"]


def test_a_version_is_measured_as_any_adapter_is(shrinking: Shrinking, labelled: Path, tmp_path: Path) -> None:
    made = shrinking.make(tmp_path / "narrow", 0.5, "bfloat16")
    found = evaluate_classifier(tmp_path / "narrow", str(labelled), "validation", data_options=NAMES)
    assert made.accuracy == found["accuracy"] and made.keep == 0.5
    assert made.parameters < 0.7 * shrinking.before.parameters
    assert load_classifier(tmp_path / "narrow")[1].model_max_length == 128  # what is said of it stays


def test_the_smallest_that_is_good_enough(shrinking: Shrinking, tmp_path: Path) -> None:
    shrunk = shrinking.smallest(tmp_path / "small", 0.05)
    assert shrunk.before.accuracy is not None
    good = [one for one in shrunk.tried if (one.accuracy or 0) >= shrunk.before.accuracy - 0.05]
    assert {one.dtype for one in shrunk.tried} == {"int8", "int4"} and len(shrunk.tried) > 2
    assert shrunk.after.bytes == min(one.bytes for one in good) == version(tmp_path / "small", 1.0).bytes
    assert (shrunk.after.accuracy or 0) >= shrunk.before.accuracy - 0.05


def test_nothing_is_written_where_none_is(shrinking: Shrinking, tmp_path: Path, monkeypatch: Any) -> None:
    shrinking.before = version(shrinking.adapter, 1.0, accuracy=2.0)
    with pytest.raises(DataError, match="loses more than 1 points"):
        shrinking.smallest(tmp_path / "small", 0.01)
    with pytest.raises(ConfigError, match="max_drop"):
        shrinking.smallest(tmp_path / "small", -1)
    with pytest.raises(CheckpointError):
        store(tmp_path / "nowhere", tmp_path / "small", "int8")
    assert not (tmp_path / "small").exists()
