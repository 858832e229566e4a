"""One adapter in a folder: finished, in the way, gone on with."""

import json
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from adapterhub.checkpoints import ADAPTER_MANIFEST, read
from adapterhub.errors import ConfigError, TrainingError
from adapterhub.training.data import load_data
from adapterhub.training.settings import Settings
from adapterhub.training.single import train_adapter
from adapterhub.training.trainer import TrainingInterrupted
from tokens import adapter_bytes


@pytest.fixture
def settings(backbone: Path) -> Settings:
    return Settings(str(backbone), "seq_bn[reduction_factor=4]", 1e-2, epochs=3, batch_size=8, precision="fp32")


def stop_in(epoch: int) -> Callable[[float, float, str], None]:
    """A progress that sends SIGINT, as Ctrl-C does, once an epoch is under way."""
    sent = []

    def progress(done: float, total: float, what: str) -> None:
        if what.startswith(f"epoch {epoch}/") and not sent:
            sent.append(True)
            signal.raise_signal(signal.SIGINT)

    return progress


def interrupted(settings: Settings, data: Path, folder: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train_adapter(settings, load_data(data), folder, progress=stop_in(2))


def test_a_folder_holds_the_adapter_and_what_it_reached(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    trained = train_adapter(settings, load_data(labelled), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "metrics.json"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(asdict(trained.result)))
    assert read(tmp_path / "adapter", ADAPTER_MANIFEST).content["name"] == "sentences"


def test_an_interrupted_training_goes_on_to_the_same_bits(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    train_adapter(settings, load_data(labelled), tmp_path / "whole")
    interrupted(settings, labelled, tmp_path / "cut")
    assert not (tmp_path / "cut" / "adapter").exists()
    train_adapter(settings, load_data(labelled), tmp_path / "cut", resume=True)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["adapter", "metrics.json"]


def test_an_unfinished_training_is_not_lost_unasked(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    interrupted(settings, labelled, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrainingError, match="add --resume to go on with it, or --overwrite"):
        train_adapter(settings, load_data(labelled), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    train_adapter(settings, load_data(labelled), tmp_path / "whole")
    train_adapter(settings, load_data(labelled), tmp_path, overwrite=True)
    assert adapter_bytes(tmp_path) == adapter_bytes(tmp_path / "whole")


def test_only_what_was_begun_is_gone_on_with(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training to resume"):
        train_adapter(settings, load_data(labelled), tmp_path, resume=True)
    interrupted(settings, labelled, tmp_path)
    other = replace(settings, learning_rate=2e-2, seed=7)
    with pytest.raises(TrainingError, match=r"learning_rate 0\.01 then, 0\.02 now; seed 0 then, 7 now"):
        train_adapter(other, load_data(labelled), tmp_path, resume=True)
    with pytest.raises(TrainingError, match="other data"):
        train_adapter(settings, load_data(labelled / "train.csv"), tmp_path, resume=True)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(TrainingError, match="no training to resume"):
        train_adapter(settings, load_data(labelled), tmp_path, resume=True)


def test_a_finished_adapter_stays_until_another_is_finished(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    train_adapter(settings, load_data(labelled), tmp_path)
    first = adapter_bytes(tmp_path)
    other = replace(settings, seed=1)
    interrupted(other, labelled, tmp_path)
    assert adapter_bytes(tmp_path) == first
    train_adapter(other, load_data(labelled), tmp_path, resume=True)
    assert adapter_bytes(tmp_path) != first


def test_a_configuration_that_is_none_leaves_no_trace(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seq_bm"):
        train_adapter(replace(settings, method="seq_bm"), load_data(labelled), tmp_path / "new")
    assert not (tmp_path / "new").exists()
