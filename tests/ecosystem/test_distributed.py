"""Training spread over two processes, against training in one on all rows."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import two_processes as two


def in_two_processes(folder: Path, *ways: str) -> None:
    script = Path(two.__file__)
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder), *ways],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)


def assert_trained(folder: Path) -> None:
    """What was saved is what comes of training on all rows at once."""
    wanted = two.prepared()
    before = {name: value.clone() for name, value in wanted.state_dict().items()}
    two.train(wanted, two.batch())
    found = two.prepared()
    for name in "ab":
        found.load_adapter(folder / name, overwrite_ok=True)
    got = found.state_dict()
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    moved = {name for name, value in before.items() if not torch.equal(value, got[name])}
    assert {name.partition(".")[0] for name in moved} == {"adapters", "classifier"}
    assert {name.split(".")[1] for name in moved if name.startswith("adapters.")} == {"a", "b"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(folder, "ddp", "fsdp2")
    return folder


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_adapters_trained_in_two_processes_and_saved(trained: Path, way: str) -> None:
    assert_trained(trained / way)


def test_adapters_sharded_by_deepspeed_are_saved_whole(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    in_two_processes(tmp_path, "deepspeed")
    assert_trained(tmp_path / "deepspeed")
