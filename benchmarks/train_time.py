"""Time to the same accuracy: ``adapterhub train`` against ``AdapterTrainer`` of ``adapters`` 1.3.0, plain and tuned.

Two measurements (see README.md). Steps: each library's trainer takes some steps of its own in turn, over many rounds.
Runs: the same number of epochs with three seeds each, every one a process of its own that leaves a line in
``runs/train_time.jsonl``; runs that are there already are not done again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers import OURS, PEERS, ROOT, THREADS, interleave, interval, machine, running, save, summary

LIBRARIES = {"ours": OURS, "plain": PEERS, "tuned": PEERS}
RATES = (3e-4, 1e-3, 3e-3)  # tried for the peer, whose own default of 5e-5 is for full fine-tuning
DEFAULT_RATE = 1e-3  # of ``adapterhub train``
MARGIN = 0.005  # below the plain run's mean best accuracy on validation; fixed before the first run
SCRIPT = "rotten_tomatoes.py"


class Runs:
    """Finished runs, one a line of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.done: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]

    def get(self, library: str, **options: Any) -> dict[str, Any]:
        """The run of these options, done now if it was not before."""
        for run in self.done:
            if all(run[name] == value for name, value in (options | {"library": library}).items()):
                return run
        print(f"{library}: {options}", file=sys.stderr, flush=True)
        run = _run(library, options) | {"load": machine()["load"]}
        self.done.append(run)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        return run


def _run(library: str, options: dict[str, Any]) -> dict[str, Any]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [str(LIBRARIES[library]), str(ROOT / "benchmarks" / SCRIPT), library, json.dumps(options)],
        env=environment | {"OMP_NUM_THREADS": str(THREADS)},
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("@")]
    if done.returncode or not answers:
        raise RuntimeError(f"{library} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(answers[-1][1:])


def best(run: dict[str, Any]) -> float:
    """The best accuracy on validation of a run."""
    return max(accuracy for _, accuracy in run["curve"])


def seconds_to(run: dict[str, Any], target: float) -> float | None:
    """Seconds until the accuracy on validation first was ``target``, evaluations included; None if it never was."""
    return next((seconds for seconds, accuracy in run["curve"] if accuracy >= target), None)


def steps(rounds: int, count: int) -> dict[str, Any]:
    """Milliseconds of a step of 32 rows on average, and their ratios, from rounds in which each takes its turn."""
    with running("{}", script=SCRIPT, **LIBRARIES) as workers:
        times = interleave(workers, rounds, count)
    means = {name: [[statistics.fmean(one)] for one in rounds] for name, rounds in times.items()}
    return {against: summary(means, {"ours": against}) for against in ("plain", "tuned")}


def compare(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Accuracies, whole times and times to the target by library, and ours against each of the peer's."""
    target = statistics.fmean(best(run) for run in runs["plain"]) - MARGIN
    result: dict[str, Any] = {"target": target}
    for name, own in runs.items():
        tests, reached = [run["test"] for run in own], [seconds_to(run, target) for run in own]
        result[name] = {
            "test_mean": statistics.fmean(tests),
            "test_deviation": statistics.stdev(tests) if len(tests) > 1 else 0.0,
            "validation_mean": statistics.fmean(best(run) for run in own),
            "seconds": [run["seconds"] for run in own],
            "seconds_to_target": reached,
        }
    for against in ("plain", "tuned"):
        pairs = list(zip(runs["ours"], runs[against], strict=True))
        result[f"ours_against_{against}"] = {
            "same_epochs": _ratio([(ours["seconds"], other["seconds"]) for ours, other in pairs]),
            "to_target": _ratio([(_spent(ours, target), _spent(other, target)) for ours, other in pairs]),
            "test_points": 100 * (result["ours"]["test_mean"] - result[against]["test_mean"]),
        }
    return result


def _spent(run: dict[str, Any], target: float) -> float:
    """Seconds to the target, or all of a run that never came to it (``seconds_to_target`` says which)."""
    return seconds_to(run, target) or run["seconds"]


def _ratio(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    ratios = [ours / other for ours, other in pairs]
    return {"ratio": statistics.median(ratios), "ratio_interval": interval(ratios), "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="of each split; by default all")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "train_time.jsonl")
    chosen = parser.parse_args()
    before = machine()
    timed = steps(chosen.rounds, chosen.steps) if chosen.rounds else None
    runs, size = Runs(chosen.runs), {"epochs": chosen.epochs, "rows": chosen.rows}
    sweep = {rate: best(runs.get("tuned", rate=rate, seed=0, **size)) for rate in RATES}
    rate = max(sweep, key=lambda rate: sweep[rate])
    rates = {"ours": DEFAULT_RATE, "plain": rate, "tuned": rate}
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in rates}
    for seed in range(chosen.seeds):  # in turn, so that a change of the machine's load meets all of them
        for name, own in rates.items():
            done[name].append(runs.get(name, rate=own, seed=seed, **size))
    result = {
        "step_times": timed,
        "rates": rates,
        "sweep_of_the_peer": sweep,
        "margin": MARGIN,
        "results": compare(done),
    }
    about = {name: own[0]["about"] for name, own in done.items()}
    sizes = {"seeds": chosen.seeds, "rounds": chosen.rounds, "steps": chosen.steps} | size
    save("train_time", result | {"runs": done, "workers": about, "machine": before} | sizes)


if __name__ == "__main__":
    main()
