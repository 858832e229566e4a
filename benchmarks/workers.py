"""Workers that are timed in turn: one process for each environment, kept alive, asked over pipes.

Two libraries that cannot live in one environment are compared by letting each answer for a short while before the
other does, many times over: what slows the machine down for a minute then slows both.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = Path(sys.executable)
PEERS = ROOT / ".venv-peers" / "bin" / "python"


class Worker:
    """A process that runs ``script`` and answers each line ``steps`` with the seconds of each of that many steps."""

    def __init__(self, python: Path, script: str, *arguments: str) -> None:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self.process = subprocess.Popen(
            [str(python), str(ROOT / "benchmarks" / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.about = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise RuntimeError(f"{self.process.args} ended with exit code {self.process.wait()}")

    def time(self, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def interleave(workers: Mapping[str, Worker], rounds: int, steps: int) -> dict[str, list[list[float]]]:
    """Seconds of every step by worker and round; the order of the workers turns from round to round."""
    names = list(workers)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    for worker in workers.values():
        worker.time(steps)  # to warm up
    for round_ in range(rounds):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            times[name].append(workers[name].time(steps))
        print(f"round {round_ + 1} of {rounds}", file=sys.stderr, end="\r")
    print(file=sys.stderr)
    return times


def summary(times: Mapping[str, list[list[float]]], against: str) -> dict[str, Any]:
    """Medians, and the median over the rounds of each worker's ratio to ``against`` with its quartiles."""
    medians = {name: [statistics.median(steps) for steps in rounds] for name, rounds in times.items()}
    result = {}
    for name, values in medians.items():
        ratios = [value / other for value, other in zip(values, medians[against], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        result[name] = {
            "milliseconds": round(1000 * statistics.median(values), 3),
            "ratio": round(middle, 4),
            "ratio_quartiles": [round(low, 4), round(high, 4)],
        }
    return {"against": against, "results": result}


def answer(steps: Any) -> None:
    """The loop of a worker: ``steps(n)`` gives the seconds of n steps."""
    for line in sys.stdin:
        print("@" + json.dumps(steps(int(line))), flush=True)


def report(about: Any) -> None:
    """Tell the parent what this worker runs."""
    print("@" + json.dumps(about), flush=True)


def machine() -> dict[str, Any]:
    """What the measurement ran on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].partition(":")[2].strip() if names else platform.processor()
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version()}


def save(name: str, result: Mapping[str, Any]) -> None:
    """Print a result and keep it under ``benchmarks/results``."""
    text = json.dumps({**result, "machine": machine()}, indent=1) + "\n"
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text)
    temporary.replace(path)
    print(text)
