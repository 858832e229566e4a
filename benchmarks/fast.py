"""`adapterhub train --fast` against `adapterhub train`: seconds of training and accuracy on the test split.

    python benchmarks/fast.py [--data DATA] [--seeds N] [--epochs N] [--runs FILE]

For each seed the defaults, `--fast` with the hidden states still to be computed, and `--fast` with them at hand, one
after another, each in a process of its own. Every run is a line of FILE; those that are there are not done again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from adapterhub.training.compare import versions
from adapterhub.training.fast import fast
from adapterhub.training.settings import Settings
from workers import ROOT, interval, machine, save

DEFAULT, FAST, KEPT = "default", "fast", "fast, states at hand"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "rotten_tomatoes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "fast.jsonl")
    given = parser.parse_args()
    before = machine()
    runs = [run for seed in range(given.seeds) for run in of_seed(given.data, seed, given.epochs, given.runs)]
    settings = asdict(fast(Settings(epochs=given.epochs)).settings)
    result = {"results": summary(runs), "runs": runs, "fast": settings, "machine": before, "versions": versions()}
    save("fast", {"data": Path(given.data).name, **result})


def of_seed(data: str, seed: int, epochs: int, lines: Path) -> Iterator[dict[str, Any]]:
    """The three runs of a seed: done now, or read from ``lines``."""
    plain = Settings(seed=seed, epochs=epochs)
    settings = {DEFAULT: plain, FAST: fast(plain).settings, KEPT: fast(plain).settings}
    with tempfile.TemporaryDirectory() as folder:
        for variant, wanted in settings.items():
            key = {"variant": variant, "data": Path(data).name, "settings": asdict(wanted)}
            done = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
            found = next((run for run in done if {name: run[name] for name in key} == key), None)
            if found is None:
                cache = None if variant == DEFAULT else Path(folder, "cache")
                if variant == KEPT and not Path(folder, "cache").exists():  # the run before is one of another time
                    run(data, replace(wanted, epochs=1), Path(folder), cache)
                found = key | run(data, wanted, Path(folder), cache)
                lines.parent.mkdir(parents=True, exist_ok=True)
                with lines.open("a") as file:
                    file.write(json.dumps(found) + "\n")
            print(f"{variant}, seed {seed}: {found['seconds']:.1f} s, {100 * found['test']:.1f} %", file=sys.stderr)
            yield found


def run(data: str, settings: Settings, folder: Path, cache: Path | None) -> dict[str, Any]:
    """Seconds of one training, what was kept computed or read, and accuracies."""
    task, result = folder / "run.json", folder / "result.json"
    about = {"settings": asdict(settings), "data": data, "data_options": {}, "result": str(result)}
    task.write_text(json.dumps(about | {"trunk_cache": None if cache is None else str(cache)}))
    subprocess.run([sys.executable, "-m", "adapterhub.training.run", task], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(result.read_text())
    return {
        "seconds": round(found["seconds"], 2),
        "test": round(found["test_accuracy"], 4),
        "validation": round(found["validation_accuracy"], 4),
        "peak_memory": found["peak_memory"],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By variant the mean accuracy and median time, and the ratio of times of a seed to those of the defaults."""
    result: dict[str, Any] = {}
    plain = [run["seconds"] for run in runs if run["variant"] == DEFAULT]
    for variant in (DEFAULT, FAST, KEPT):
        own = [run for run in runs if run["variant"] == variant]
        ratios = [run["seconds"] / seconds for run, seconds in zip(own, plain, strict=True)]
        result[variant] = {
            "test": round(statistics.mean(run["test"] for run in own), 4),
            "validation": round(statistics.mean(run["validation"] for run in own), 4),
            "seconds": round(statistics.median(run["seconds"] for run in own), 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_interval": [round(end, 3) for end in interval(ratios)],
        }
    return result


if __name__ == "__main__":
    main()
