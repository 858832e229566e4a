"""``adapterhub convert``: every format into every other, whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
import goldens
from adapterhub.cli import app
from adapterhub.composition import Fuse, Stack


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    goldens.base("bert")[0].save_pretrained(folder)
    return folder


def run(*arguments: object) -> int:
    return app.run(["convert", *map(str, arguments)])


def test_round_trip(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = goldens.ADAPTERS / "bert-lora"
    plain = goldens.PEFT / "plain"
    assert run(plain, tmp_path / "ours", "--format", "adapterhub", "--model", base, "--no-head", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["from"], said["to"], said["adapters"]) == ("peft", "adapterhub", ["plain"])
    assert run(tmp_path / "ours", tmp_path / "theirs", "-f", "adapters", "-m", base) == 0
    assert run(tmp_path / "theirs", tmp_path / "back", "-f", "peft", "-m", base) == 0
    made, first = (goldens.load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "back", plain))
    assert {key.replace(".model.", ".model.bert."): one for key, one in made.items()}.keys() == first.keys()
    assert all(torch.equal(made[key.replace(".bert.", ".")], first[key]) for key in first)
    assert run(source, tmp_path / "flexible", "-f", "adapterhub", "-m", base) == 0
    model: Any = adapterhub.load_adapter(tmp_path / "flexible", model=base)
    inputs, output = goldens.expected(source)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_a_whole_setup(base: Path, tmp_path: Path) -> None:
    source = goldens.ADAPTERS / "bert-setup"
    assert run(source, tmp_path / "ours", "--format", "adapterhub", "--model", base) == 0
    model: Any = adapterhub.load_adapter(tmp_path / "ours", model=base)
    assert model.active_adapters == Stack("a", Fuse("b", "c")) and model.active_head == "target"
    inputs, output = goldens.expected(source)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_nothing_is_written_unless_all_of_it_can_be(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(goldens.ADAPTERS / "bert-double", out, "-f", "peft", "-m", base, "--no-head") == 1
    assert "bottleneck" in capsys.readouterr().err
    assert run(goldens.ADAPTERS / "bert-lora", out, "-f", "peft", "-m", base) == 1
    assert run(goldens.ADAPTERS / "bert-setup", out, "-f", "peft", "-m", base) == 1
    assert run(goldens.ADAPTERS / "bert-lora", out, "-f", "onnx", "-m", base) == 1
    assert run(goldens.ADAPTERS / "bert-pickled", out, "-f", "adapterhub", "-m", base) == 1
    assert "allow_pickle" in capsys.readouterr().err
    assert run(goldens.ADAPTERS / "bert-lora", out, "-f", "adapterhub") == 1
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(goldens.ADAPTERS / "bert-lora", out)
    before = sorted((path.name, path.read_bytes()) for path in out.iterdir())
    assert run(goldens.ADAPTERS / "bert-double", out, "-f", "adapterhub", "-m", base) == 1
    assert "there already" in capsys.readouterr().err
    assert sorted((path.name, path.read_bytes()) for path in out.iterdir()) == before
