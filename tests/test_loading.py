"""``adapterhub.load_adapter``: an adapter of any format with the base model that it names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
import goldens
from adapterhub.composition import Fuse, Stack
from adapterhub.errors import BackboneError, BaseModelMismatchError, CheckpointNotFoundError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    goldens.base("bert")[0].save_pretrained(folder)
    return folder


def naming(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy of a checkpoint that names its base model."""
    shutil.copytree(folder, to)
    path = to / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return to


def test_of_adapters(base: Path, tmp_path: Path) -> None:
    folder = naming(goldens.ADAPTERS / "bert-lora", tmp_path / "a", model_name=str(base))
    model: Any = adapterhub.load_adapter(folder)
    inputs, output = goldens.expected(folder)
    assert model.active_head == "task" and not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", ["everything", "vera_drawn"])
def test_of_peft(label: str, base: Path, tmp_path: Path) -> None:
    folder = naming(goldens.PEFT / label, tmp_path / "a", base_model_name_or_path=str(base))
    model: Any = adapterhub.load_adapter(str(folder))
    assert type(model).__name__ == "BertForSequenceClassification"
    made, inputs, output = goldens.classifier(label)
    if label != "everything":  # which brings no head
        model.classifier.load_state_dict(made.classifier.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_of_peft_with_another_number_of_labels(base: Path, tmp_path: Path) -> None:
    made: Any = adapterhub.AutoModelForSequenceClassification.from_pretrained(base, num_labels=5)
    made.add_adapter("a", config="lora")
    made.save_adapter(tmp_path / "a", "a", format="peft")
    model: Any = adapterhub.load_adapter(tmp_path / "a")
    assert model.config.num_labels == 5
    assert torch.equal(model.classifier.weight, made.classifier.weight)


def test_our_own_with_a_head_of_transformers(base: Path, tmp_path: Path) -> None:
    labels = {0: "no", 1: "yes", 2: "maybe"}
    made: Any = adapterhub.AutoModelForSequenceClassification.from_pretrained(base, id2label=labels)
    made.add_adapter("a", config="seq_bn")
    made.save_adapter(tmp_path / "a", "a")
    model: Any = adapterhub.load_adapter(tmp_path / "a", model=base)
    assert model.config.id2label == labels and torch.equal(model.classifier.weight, made.classifier.weight)
    bare: Any = adapterhub.load_adapter(tmp_path / "a", model=base, with_head=False)
    assert not bare.heads and list(bare.adapters) == ["a"]


def test_a_whole_setup(base: Path, tmp_path: Path) -> None:
    shutil.copytree(goldens.ADAPTERS / "bert-setup", tmp_path / "setup")
    model: Any = adapterhub.load_adapter(tmp_path / "setup", model=base)
    inputs, output = goldens.expected(tmp_path / "setup")
    assert model.active_adapters == Stack("a", Fuse("b", "c"))
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_in_a_folder_of_its_own(base: Path, tmp_path: Path) -> None:
    """PEFT saves an adapter that is not called ``default`` in a folder of its name."""
    naming(goldens.PEFT / "plain", tmp_path / "all" / "mine", base_model_name_or_path=str(base))
    model: Any = adapterhub.load_adapter(tmp_path / "all")
    assert list(model.adapters) == ["mine"]
    naming(goldens.PEFT / "plain", tmp_path / "all" / "other")
    with pytest.raises(CheckpointNotFoundError, match="mine, other"):
        model.load_adapter(tmp_path / "all")


def test_what_cannot_be_found(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="is no folder"):
        adapterhub.load_adapter(tmp_path / "nothing")
    with pytest.raises(CheckpointNotFoundError, match="holds no adapter"):
        adapterhub.load_adapter(base)
    with pytest.raises(CheckpointNotFoundError, match="no repository"):
        adapterhub.load_adapter("nobody/nothing", where={"local_files_only": True})
    with pytest.raises(BaseModelMismatchError, match=r"model=\.\.\."):
        adapterhub.load_adapter(goldens.PEFT / "plain")
    with pytest.raises(BackboneError, match="does not exist"):
        adapterhub.load_adapter(goldens.PEFT / "plain", model=tmp_path / "no-model")
