"""Adapters against full fine-tuning, and against the head alone, fairly.

Each method has its own sweep over the same number of learning rates, tried with the first seeds and chosen by the mean
accuracy on validation; then every seed is run with the rate that was chosen. All methods share model, data, head,
batches, number of epochs and stop rule; the test split is used once a run. Every run is a process of its own and leaves
a file, so an interrupted comparison goes on where it stopped.
"""

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from adapterhub.errors import ConfigError, TrainingError
from adapterhub.methods import load_config
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.data import SHIPPED, TextData, load_data
from adapterhub.training.progress import Progress
from adapterhub.training.settings import FULL, HEAD, Result, Settings
from adapterhub.training.sources import slug

METHODS = ("seq_bn", "lora", FULL, HEAD)
_RATES = {FULL: (2e-5, 5e-5, 1e-4), HEAD: (1e-3, 3e-3, 1e-2)}
_ADAPTER_RATES = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class MethodResult:
    """One method: all runs of its sweep, the rate chosen on validation, and a run for each seed with it."""

    method: str
    sweep: tuple[Result, ...]
    learning_rate: float
    runs: tuple[Result, ...]

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return statistics.fmean(run.test_accuracy for run in self.runs)

    @property
    def spread(self) -> float:
        """Standard deviation of the test accuracy over the seeds; 0 for one seed."""
        accuracies = [run.test_accuracy for run in self.runs]
        return statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0

    def by_rate(self) -> dict[float, float]:
        """Mean validation accuracy of each rate of the sweep, over the seeds that it was tried with."""
        rates = sorted({run.settings.learning_rate for run in self.sweep})
        return {
            rate: statistics.fmean(run.validation_accuracy for run in self.sweep if run.settings.learning_rate == rate)
            for rate in rates
        }

    @property
    def collapsed(self) -> tuple[int, ...]:
        """Seeds of which the run learnt nothing."""
        return tuple(run.settings.seed for run in self.runs if run.collapsed)


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found, and on what."""

    model: str
    data: Mapping[str, Any]
    methods: tuple[MethodResult, ...]
    seeds: tuple[int, ...]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; holds every run, and mean and spread beside them."""
        values = asdict(self)
        for method, entry in zip(self.methods, values["methods"], strict=True):
            entry |= {"mean": method.mean, "spread": method.spread, "collapsed": list(method.collapsed)}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Comparison":
        """Read back what ``to_dict`` gave."""
        methods = tuple(
            MethodResult(
                entry["method"],
                tuple(map(Result.from_dict, entry["sweep"])),
                entry["learning_rate"],
                tuple(map(Result.from_dict, entry["runs"])),
            )
            for entry in values["methods"]
        )
        return cls(**{**values, "methods": methods, "seeds": tuple(values["seeds"])})


def compare(
    model: str = "minilm",
    data: str | os.PathLike[str] = SHIPPED,
    methods: Sequence[str] = METHODS,
    *,
    seeds: int | Sequence[int] = 3,
    sweep_seeds: int = 1,
    learning_rates: Mapping[str, Sequence[float]] | None = None,
    settings: Settings | None = None,
    data_options: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike[str] = "runs/compare",
    progress: Progress | None = None,
) -> Comparison:
    """Train and test every method on one task.

    Args:
        model: a name or path for transformers, or ``"minilm"``.
        data: as ``adapterhub.training.data.load_data`` takes it; ``data_options`` go to it.
        methods: configurations of adapters, ``"full"``, ``"head"``; by default ``seq_bn``, ``lora``, full fine-tuning,
            and the head alone.
        seeds: how many (0, 1, ...), or which.
        sweep_seeds: how many of them every rate is tried with. Where the validation split is small, the accuracy of
            one run says little about its rate.
        learning_rates: the sweep of a method, by its name; all must have the same number of rates.
        settings: what all runs share; its ``model``, ``method``, ``learning_rate`` and ``seed`` are replaced.
        output_dir: where the runs and ``comparison.json`` go; runs that are there already are not done again.
        progress: called with the number of runs done (a fraction within a run), of all runs, and what is under way.

    Raises:
        ConfigError: for an unknown method, sweeps of different size, or more seeds to sweep than there are.
        DataError: if the data cannot be used.
        BackboneError: if the model cannot be loaded.
        TrainingError: if a run fails; finished ones stay.
    """
    rates = {method: tuple((learning_rates or {}).get(method, default_rates(method))) for method in methods}
    _check(rates)
    seed_list = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    with loading(model):
        AutoConfig.from_pretrained(resolve_backbone(model))  # a name that is wrong shows before the first run
    loaded = load_data(data if isinstance(data, str) else Path(data), **(data_options or {}))
    folder = Path(output_dir)
    if not 1 <= sweep_seeds <= len(seed_list):
        raise ConfigError(f"sweep_seeds is from 1 to the number of seeds, {len(seed_list)}, not {sweep_seeds}")
    total = sum(len(sweep) * sweep_seeds + len(seed_list) - sweep_seeds for sweep in rates.values())
    source = data if isinstance(data, str) else str(Path(data).absolute())  # "reviews" is the shipped set
    runner = _Runner(folder / "runs", source, dict(data_options or {}), loaded.fingerprint, total, progress)
    results = []
    for method, sweep in rates.items():
        base = replace(settings or Settings(), model=model, method=method)
        tried = tuple(
            runner.run(replace(base, learning_rate=rate, seed=seed))
            for rate in sweep
            for seed in seed_list[:sweep_seeds]
        )
        by_rate = MethodResult(method, tried, 0.0, ()).by_rate()
        best = max(sweep, key=by_rate.__getitem__)
        again = tuple(run for run in tried if run.settings.learning_rate == best)
        others = tuple(runner.run(replace(base, learning_rate=best, seed=seed)) for seed in seed_list[sweep_seeds:])
        results.append(MethodResult(method, tried, best, (*again, *others)))
    comparison = Comparison(model, _describe(loaded), tuple(results), seed_list, machine(), versions())
    write_json(folder / "comparison.json", comparison.to_dict())
    return comparison


def default_rates(method: str) -> tuple[float, ...]:
    """The learning rates that are tried for a method."""
    return _RATES.get(method, _ADAPTER_RATES)


def machine() -> dict[str, Any]:
    """What the machine is, for the record of a measurement."""
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("adapterhub", "torch", "transformers", "datasets")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


@dataclass
class _Runner:
    """Does runs in processes of their own, and keeps each as a file."""

    folder: Path
    data: str
    data_options: dict[str, Any]
    fingerprint: str
    total: int
    progress: Progress | None
    done: int = 0

    def run(self, settings: Settings) -> Result:
        key = hashlib.sha256(json.dumps([asdict(settings), self.fingerprint], sort_keys=True).encode()).hexdigest()
        name = f"{slug(settings.method)}-{settings.learning_rate:g}-{settings.seed}"
        path = self.folder / f"{name}-{key[:8]}.json"
        what = f"{settings.method}, rate {settings.learning_rate:g}, seed {settings.seed}"
        if not path.exists():
            self._report(0.0, what)
            self._do(settings, path, what)
            self._report(1.0, what)
        self.done += 1
        return Result.from_dict(json.loads(path.read_text(encoding="utf-8")))

    def _report(self, share: float, what: str) -> None:
        if self.progress is not None:
            self.progress(self.done + share, self.total, what)

    def _do(self, settings: Settings, path: Path, what: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            task, result = Path(folder, "run.json"), Path(folder, "result.json")
            run = {"settings": asdict(settings), "data": self.data, "data_options": self.data_options}
            task.write_text(json.dumps(run | {"result": str(result)}), encoding="utf-8")
            command = [sys.executable, "-m", "adapterhub.training.run", str(task)]
            with Path(folder, "errors").open("w+", encoding="utf-8") as errors:
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
                    try:
                        for line in process.stdout or ():
                            self._report(_share(line), what)
                    except BaseException:  # an interruption too: nobody would wait for the run any more
                        process.kill()
                        raise
                if process.returncode:
                    errors.seek(0)
                    reason = _reason(errors.read(), process.returncode)
                    raise TrainingError(f"the run {path.stem} failed: {reason}")
            write_json(path, json.loads(result.read_text(encoding="utf-8")))


def _share(line: str) -> float:
    """How much of a run is done, by what it printed."""
    try:
        return float(line)
    except ValueError:
        return 0.0


def _reason(errors: str, code: int) -> str:
    """The last line of a traceback, which has the message, without the module of the exception's class."""
    lines = errors.strip().splitlines()
    if not lines:
        return f"exit code {code}" + (" (killed: out of memory?)" if code == -9 else "")
    kind, colon, message = lines[-1].partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def _check(rates: Mapping[str, Sequence[float]]) -> None:
    for method in rates:
        if method not in (FULL, HEAD):
            load_config(method)
    if len({len(sweep) for sweep in rates.values()}) > 1:
        sizes = ", ".join(f"{method}: {len(sweep)}" for method, sweep in rates.items())
        raise ConfigError(f"every method needs a sweep of the same size, or the comparison is not fair: {sizes}")


def _describe(data: TextData) -> dict[str, Any]:
    return {
        "name": data.name,
        "rows": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "labels": list(data.labels),
        "notes": list(data.notes),
        "fingerprint": data.fingerprint,
    }
