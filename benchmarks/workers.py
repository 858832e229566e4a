"""Workers that are timed in turn: one process for each environment, kept alive, asked over pipes.

Two libraries that cannot live in one environment are compared by letting each answer for a short while before the
other does, many times over: what slows the machine down for a minute then slows both.
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = Path(sys.executable)
PEERS = ROOT / ".venv-peers" / "bin" / "python"
# Every worker gets as many threads as this process has processors, whatever it would choose itself.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
    """A process of a script that answers each line ``steps`` with the seconds of each of that many steps.

    Raises:
        RuntimeError: if the environment is not there, or the process ends before it answers.
    """

    def __init__(self, python: Path, *arguments: str, script: str = "worker.py") -> None:
        if not python.exists():
            raise RuntimeError(f"{python} is not there; scripts/peer-env makes the environment of the peers")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (close() closes it)
        self.process = subprocess.Popen(
            [str(python), str(ROOT / "benchmarks" / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ
            | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": str(THREADS)},
        )
        try:
            self.about = self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        code = self.process.wait()
        self.errors.seek(0)
        raise RuntimeError(f"{self.process.args} ended with exit code {code}:\n{self.errors.read()[-2000:]}")

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
        self.errors.close()


@contextmanager
def running(task: str, *, script: str = "worker.py", **libraries: Path) -> Iterator[dict[str, Worker]]:
    """A worker for each library (``ours``, ``adapters``, ...) in the environment that is given for it."""
    with ExitStack() as stack:
        workers = {}
        for name, python in libraries.items():
            workers[name] = Worker(python, name.partition("_")[0], task, script=script)
            stack.callback(workers[name].close)
        yield workers


def interleave(workers: Mapping[str, Any], rounds: int, steps: int) -> dict[str, list[list[float]]]:
    """Seconds of every step by worker and round; the order of the workers turns from round to round."""
    names = list(workers)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    for worker in workers.values():
        worker.time(steps)  # to warm up
    for done in range(rounds):
        for name in names[done % len(names) :] + names[: done % len(names)]:
            times[name].append(workers[name].time(steps))
        print(f"round {done + 1} of {rounds}", file=sys.stderr, end="\r")
    print(file=sys.stderr)
    return times


def summary(times: Mapping[str, list[list[float]]], against: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Median time of a step by worker, and its ratio to that of the worker that ``against`` names for it.

    The ratio is the median over the rounds of the ratio of the two medians of a round; its interval is that of 95 %,
    by bootstrap over the rounds.
    """
    medians = {name: [statistics.median(steps) for steps in rounds] for name, rounds in times.items()}
    result: dict[str, dict[str, Any]] = {}
    for name, values in medians.items():
        result[name] = {"milliseconds": round(1000 * statistics.median(values), 3)}
        if name in against:
            ratios = [value / other for value, other in zip(values, medians[against[name]], strict=True)]
            result[name] |= {
                "against": against[name],
                "ratio": round(statistics.median(ratios), 4),
                "ratio_interval": [round(end, 4) for end in interval(ratios)],
            }
    return result


def interval(values: list[float], samples: int = 2000) -> tuple[float, float]:
    """Interval of 95 % of the median of ``values``, by bootstrap with a fixed seed."""
    draw = random.Random(0)
    drawn = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(samples))
    return drawn[round(0.025 * samples)], drawn[round(0.975 * samples) - 1]


def answer(steps: Any) -> None:
    """The loop of a worker: ``steps(n)`` gives the seconds of n steps."""
    for line in sys.stdin:
        print("@" + json.dumps(steps(int(line))), flush=True)


def report(about: Any) -> None:
    """Tell the parent what this worker runs."""
    print("@" + json.dumps(about), flush=True)


def machine() -> dict[str, Any]:
    """What the measurement ran on; ``load`` is the mean number of running processes in the minute before."""
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text().splitlines() if processors.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = round(os.getloadavg()[0], 2)
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(), "load": load}


def save(name: str, result: Mapping[str, Any]) -> None:
    """Print a result and keep it under ``benchmarks/results``, whole or not at all."""
    text = json.dumps(result, indent=1) + "\n"
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text)
    temporary.replace(path)
    print(text)
