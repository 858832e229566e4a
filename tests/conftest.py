"""Fixtures for all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tokens
from adapterhub.training.data import load_data
from adapterhub.training.settings import Settings
from adapterhub.training.single import ADAPTER, train_adapter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``cuda`` are for a machine with a GPU."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda") is not None:
                item.add_marker(pytest.mark.skip(reason="no CUDA"))


@pytest.fixture(scope="module")
def reachable() -> Iterator[None]:
    """Hubs of tests are on this machine: clients ask them, also where nothing else may be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C interrupts: a shell lets what it runs in the background ignore it, and processes inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with public data sets, ``ADAPTERHUB_DATA``; tests that need it are skipped where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("ADAPTERHUB_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no public data at {root}; set ADAPTERHUB_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random BERT with a tokenizer of real words."""
    return tokens.model_folder(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three CSV files of labelled sentences: 48, 16 and 16 rows."""
    folder = tmp_path_factory.mktemp("data") / "sentences"
    rows = tokens.sentences(60)
    tokens.write_csv(folder / "train.csv", rows[:48])
    tokens.write_csv(folder / "validation.csv", rows[28:44])
    tokens.write_csv(folder / "test.csv", rows[44:])
    return folder


@pytest.fixture(scope="session")
def adapter(backbone: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved adapter with its head, trained on ``labelled``."""
    folder = tmp_path_factory.mktemp("trained")
    settings = Settings(str(backbone), "seq_bn[reduction_factor=4]", 3e-2, epochs=3, batch_size=8, precision="fp32")
    train_adapter(settings, load_data(labelled, label_names=("bad", "good")), folder)
    return folder / ADAPTER
