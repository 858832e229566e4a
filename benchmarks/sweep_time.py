"""16 adapters trained together against 16 runs one after another: time, memory, and whether results are equal.

Three processes take a few steps each in turn: one run alone, all 16 together, and all with a trunk cache. A step of all
is held against 16 steps of the one. ``--whole ROWS`` then trains some of the runs on so many rows, together and alone,
and compares their loss curves.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from sweep_steps import few, settings
from workers import OURS, interleave, machine, running, save, summary

SCRIPT = "sweep_steps.py"


def steps(precision: str, rounds: int, count: int) -> dict[str, Any]:
    """Milliseconds of a step for each run, their ratios, and the peak memory of each process."""
    options = json.dumps({"precision": precision})
    with running(options, script=SCRIPT, alone=OURS, together=OURS, cached=OURS) as workers:
        times = interleave(workers, rounds, count)
        about = {name: worker.about for name, worker in workers.items()}
        memory = {name: peak_memory(worker.process.pid) for name, worker in workers.items()}
    runs = about["together"]["runs"]
    for name in ("together", "cached"):
        times[name] = [[seconds / runs for seconds in one] for one in times[name]]
    result = summary(times, {"together": "alone", "cached": "alone"})
    return {"a run": result, "peak_megabytes": memory, "workers": about}


def peak_memory(process: int) -> float | None:
    """The largest resident size of a process so far, in megabytes; None where the system does not say."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return round(found[0] / 1024, 1) if found else None


def whole(rows: int, runs: int, epochs: int) -> dict[str, Any]:
    """Some runs to their end on a few rows, together and one after another: seconds, and how far results differ."""
    from adapterhub.training.many import Run, train_many
    from adapterhub.training.recipe import train_classifier

    data = few(rows)
    chosen = settings("fp32", epochs)[:: 16 // runs]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        together = train_many([Run(f"run-{n}", one, data) for n, one in enumerate(chosen)], Path(folder, "many"))
        seconds = time.perf_counter() - started
        results = [one.result for one in together if one.result is not None]
        started = time.perf_counter()
        alone = [train_classifier(one, data, Path(folder, str(n))).result for n, one in enumerate(chosen)]
        apart = time.perf_counter() - started
    pairs = list(zip(results, alone, strict=True))
    differences = [abs(a - b) for one, other in pairs for (_, a), (_, b) in zip(one.losses, other.losses, strict=True)]
    return {
        "rows": rows,
        "runs": runs,
        "epochs": epochs,
        "seconds": {"together": round(seconds, 1), "one after another": round(apart, 1)},
        "largest_difference_of_loss_curves": max(differences),
        "test_accuracies": {
            "together": [round(one.test_accuracy, 4) for one in results],
            "alone": [round(one.test_accuracy, 4) for one in alone],
        },
        "validation_curves_equal": [one.validation_curve == other.validation_curve for one, other in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=12)
    parser.add_argument("steps", type=int, nargs="?", default=4)
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--whole", type=int, default=1024, metavar="ROWS", help="0 for none")
    parser.add_argument("--runs", type=int, default=4, help="of those, how many: 1, 2, 4, 8 or 16")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--name", default="sweep_time", help="of the result")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "rounds": given.rounds, "steps": given.steps}
    for precision in given.precisions.split(","):
        result[precision] = steps(precision, given.rounds, given.steps)
        save(given.name, result)
    if given.whole:
        result["whole"] = whole(given.whole, given.runs, given.epochs)
        save(given.name, result)


if __name__ == "__main__":
    main()
