"""Large files by each of the ways that stock clients send them: Xet, git LFS whole and in parts, in the commit."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save
from sqlalchemy import func, select

from adapterhub.hub.server.database import Piece
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.adapter_files import lora, write
from hub.server.protocol.clients.conftest import VERSIONS, Lane, Talk, environment

NEW = [version for version in ("2.4.0", "latest") if version in VERSIONS]
PARTS = {"ADAPTERHUB_PART_BYTES": "300000"}
WITHOUT_XET = {"HF_HUB_DISABLE_XET": "1"}
LANES = [
    *[(version, Lane("auto"), True) for version in NEW],
    *[(version, Lane("lfs", client=WITHOUT_XET), False) for version in NEW],
    ("2.4.0", Lane("regular", server={"ADAPTERHUB_UPLOADS": "regular"}), False),
    ("1.19.0", Lane("auto"), False),
    ("1.19.0", Lane("parts", server=PARTS), False),
    ("0.36.2", Lane("auto"), False),
]


def weights(*arrays: numpy.ndarray) -> bytes:
    return save({f"tensor.{number}": array for number, array in enumerate(arrays)})


def corpus() -> dict[str, bytes]:
    """Files of all kinds that are sent in different ways by the same client."""
    draw = numpy.random.default_rng(0)
    noise = draw.integers(0, 256, 400_000, dtype="uint8")
    return lora(rank=16, size=768, layers=4) | {
        "random/weights.safetensors": weights(noise),
        "floats.safetensors": weights(draw.normal(size=200_000).astype("float32")),
        "halves.safetensors": weights(draw.normal(size=200_000).astype("float16")),
        "repeated.safetensors": weights(*[noise] * 4),
        "zeros.safetensors": weights(numpy.zeros(1_000_000, "float32")),
        "none.safetensors": weights(numpy.zeros(0, "float32")),
        "a/b/c/d/ünïcödé 名前.safetensors": weights(numpy.ones(3, "float32")),
        "long.jsonl": b'{"text": "Again and again and again."}\n' * 40_000,
        "empty.txt": b"",
        "one.txt": b"1",
    }


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("large"), corpus())


def xorbs(talk: Talk) -> int:
    """How many came by Xet."""
    hub = Hub.open(Settings(directory=talk.server.folder))
    with hub.database.read() as session:
        found = session.scalar(select(func.count()).select_from(Piece)) or 0
    hub.close()
    return found


@pytest.mark.parametrize(("version", "lane", "xet"), LANES, ids=lambda one: getattr(one, "name", str(one)))
def test_they_arrive_and_come_back(
    talk: Callable[[Lane], Talk], version: str, lane: Lane, xet: bool, large: Path, tmp_path: Path
) -> None:
    """And the same again is no commit; a client that was started anew sends all to a new repository once more."""
    python, one = environment(version), talk(lane)
    for turn in ("a", "b") if xet else ("a",):
        before = xorbs(one)
        repository = f"ann/{lane.name}-{version.replace('.', '-')}-{turn}"
        found = one.run(python, "large.py", str(large), str(tmp_path / turn), repository, home=tmp_path / "home")
        assert found["same"] == [True, True]
        assert found["no commit"]
        assert (xorbs(one) > before) == xet
