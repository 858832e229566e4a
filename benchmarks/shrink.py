"""Trained adapters in fewer bits and with fewer hidden units: bytes and accuracy, over several seeds.

python benchmarks/shrink.py [DATA [seeds]]

Adapters that are trained already are found again in ``runs/shrink``.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterhub.checkpoints import Storage
from adapterhub.training.data import load_data
from adapterhub.training.settings import Settings
from adapterhub.training.shrinking import Shrinking, version
from adapterhub.training.single import ADAPTER, METRICS, train_adapter
from workers import ROOT, machine, save

_DATA = ROOT.parent / "shared" / "data" / "rotten_tomatoes"
_METHOD = "seq_bn[reduction_factor=6]"
_VERSIONS: tuple[tuple[Storage, float], ...] = (
    ("bfloat16", 1.0),
    ("int8", 1.0),
    ("int4", 1.0),
    ("int8", 0.5),
    ("int8", 0.25),
    ("int8", 0.125),
)


def trained(source: str, seed: int) -> Path:
    """The adapter of a seed, trained with the defaults unless it is there."""
    folder = ROOT / "runs" / "shrink" / str(seed)
    if not (folder / METRICS).exists():
        train_adapter(Settings(method=_METHOD, seed=seed), load_data(source), folder, overwrite=True)
    return folder / ADAPTER


def measured(source: str, seed: int) -> Iterator[tuple[str, int, float]]:
    """Name, bytes and test accuracy of the whole adapter and of each of its versions."""
    shrinking = Shrinking(trained(source, seed), source)
    yield "float32", shrinking.before.bytes, shrinking.accuracy(shrinking.adapter, "test")
    for dtype, keep in _VERSIONS:
        with tempfile.TemporaryDirectory() as folder:
            shrinking.make(Path(folder), keep, dtype)
            name = dtype if keep == 1 else f"{dtype}, {keep:g} of the units"
            yield name, version(Path(folder), keep).bytes, shrinking.accuracy(Path(folder), "test")


def main(source: str = str(_DATA), seeds: int = 3) -> None:
    """Measure all versions; results go to ``results/shrink.json``."""
    before = machine()
    found: dict[str, list[tuple[int, float]]] = {}
    for seed in range(seeds):
        for name, size, accuracy in measured(source, seed):
            found.setdefault(name, []).append((size, accuracy))
    whole = found["float32"]
    rows: dict[str, Any] = {}
    for name, values in found.items():
        drops = [100 * (one[1] - other[1]) for one, other in zip(whole, values, strict=True)]
        rows[name] = {
            "bytes": values[0][0],
            "share of the bytes": round(values[0][0] / whole[0][0], 4),
            "test accuracy": [round(100 * accuracy, 2) for _, accuracy in values],
            "points lost, by seed": [round(drop, 2) for drop in drops],
            "points lost": round(statistics.mean(drops), 2),
        }
        print(name, rows[name])
    what = f"{_METHOD} with its head on {load_data(source).name}, trained with the defaults, {seeds} seeds"
    save("shrink", {"what": what, "machine": before, "versions": rows})


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
