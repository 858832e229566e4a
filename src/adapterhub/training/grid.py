"""Grid search: adapters of several methods, sizes, learning rates and seeds on one task, trained together."""

import csv
import io
import os
import shutil
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from adapterhub.errors import ConfigError, TrainingError
from adapterhub.files import replace as replace_file
from adapterhub.methods import load_config
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.compare import default_rates, machine, versions, write_json
from adapterhub.training.data import TextData
from adapterhub.training.many import Outcome, Run, train_many
from adapterhub.training.progress import Progress
from adapterhub.training.settings import Settings
from adapterhub.training.single import ADAPTER
from adapterhub.training.sources import slug
from adapterhub.training.trunk_cache import TrunkCache

_SIZES = ("r", "prefix_length", "prompt_length")  # options that say how large an adapter is, beside reduction_factor


@dataclass(frozen=True)
class Grid:
    """What is tried: every method with every size, learning rate and seed.

    A ``size`` is the width of a bottleneck, the rank of a low-rank adapter, or the length of a prefix or prompt;
    without ``sizes`` it is what the method says.
    """

    methods: tuple[str, ...] = ("seq_bn",)
    learning_rates: tuple[float, ...] = default_rates("seq_bn")
    seeds: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("methods", "learning_rates", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"a grid needs at least one of its {name.replace('_', ' ')}")
        for one in fields(self):
            values = getattr(self, one.name)
            if len(set(values)) < len(values):
                raise ConfigError(
                    f"{one.name.replace('_', ' ')} of a grid hold one twice: {', '.join(map(str, values))}"
                )

    def points(self, width: int) -> Iterator["Point"]:
        """Every combination but for the seed, for a base model of a hidden ``width``."""
        for method in self.methods:
            for size in self.sizes or (None,):
                sized = method if size is None else with_size(method, size, width)
                yield from (Point(method, size, rate, sized) for rate in self.learning_rates)


@dataclass(frozen=True)
class Point:
    """One combination; ``configuration`` is the method with the size in it."""

    method: str
    size: int | None
    learning_rate: float
    configuration: str

    @property
    def name(self) -> str:
        """What a run of it is called, without the seed."""
        size = () if self.size is None else (str(self.size),)
        return "-".join((slug(self.method), *size, f"{self.learning_rate:g}"))


@dataclass(frozen=True)
class Tried:
    """A combination and what became of its runs, seed by seed."""

    point: Point
    outcomes: tuple[Outcome, ...]

    @property
    def validation(self) -> tuple[float, ...]:
        """Accuracies on validation of the runs that have a result."""
        return tuple(one.result.validation_accuracy for one in self.outcomes if one.result is not None)

    @property
    def mean(self) -> float:
        """Mean accuracy on validation; below all others if no run has a result."""
        return statistics.fmean(self.validation) if self.validation else -1.0

    @property
    def spread(self) -> float:
        """Standard deviation of the accuracy on validation; 0 for one run."""
        return statistics.stdev(self.validation) if len(self.validation) > 1 else 0.0


@dataclass(frozen=True)
class Swept:
    """All that a grid search found; ``chosen`` is a run of the ``best`` combination, and ``adapter`` its folder."""

    tried: tuple[Tried, ...]
    best: Tried
    chosen: Outcome
    adapter: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; holds every run."""
        tried = [
            asdict(one.point) | {"mean": one.mean, "spread": one.spread, "runs": [_plain(run) for run in one.outcomes]}
            for one in self.tried
        ]
        return {"chosen": _plain(self.chosen), "adapter": str(self.adapter), "tried": tried}


def sweep(
    data: TextData,
    grid: Grid,
    output_dir: str | os.PathLike[str] = "runs/sweep",
    *,
    settings: Settings | None = None,
    trunk_cache: TrunkCache | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Swept:
    """Train every point of a grid in one process, and keep the adapter that is best on validation.

    All seeds see the rows in the same order, that of ``settings.data_seed`` (0 by default), so that they share what is
    computed below the lowest adapter; initial values and dropout depend on the seed. The combination with the best mean
    on validation is chosen, and of its runs the best one; the test split has no say.

    Args:
        data: the task.
        grid: what is tried.
        output_dir: where the runs, ``sweep.json``, ``sweep.csv`` and the chosen ``adapter`` go; what is there already
            is gone on with.
        settings: what all runs share; its ``method``, ``learning_rate`` and ``seed`` are replaced.
        trunk_cache: where what lies below all adapters is kept, if it is to be computed once.
        overwrite: train anew what was done before.
        progress: called with the number of steps done, of all steps, and what is under way.

    Raises:
        ConfigError: for a method without a size where there are ``sizes``, or two combinations that are the same.
        BackboneError: if the base model cannot be loaded.
        TrainingError: if no run has a result.
        TrunkError: with a trunk cache, if an adapter acts in the lowest layer, or the model cannot run above it.
        TrainingInterrupted: if it was stopped by a signal; the same call goes on with it.
    """
    base = settings or Settings()
    base = base if base.data_seed is not None else replace(base, data_seed=0)
    folder = Path(output_dir)
    points = list(grid.points(_width(base.model)))
    runs = {point: [_run(point, seed, base, data) for seed in grid.seeds] for point in points}
    outcomes = iter(
        train_many(
            [run for own in runs.values() for run in own],
            folder,
            trunk_cache=trunk_cache,
            overwrite=overwrite,
            progress=progress,
        )
    )
    tried = tuple(Tried(point, tuple(next(outcomes) for _ in own)) for point, own in runs.items())
    best = max(tried, key=lambda one: one.mean)
    if not best.validation:
        raise TrainingError(f"none of {len(tried)} combinations could be trained: {best.outcomes[0].error}")
    chosen = max((one for one in best.outcomes if one.result is not None), key=_validation)
    swept = Swept(tried, best, chosen, folder / ADAPTER)
    _copy(chosen.folder / ADAPTER, swept.adapter)
    write_json(folder / "sweep.json", swept.to_dict() | {"machine": machine(), "versions": versions()})
    replace_file(folder / "sweep.csv", _csv(swept).encode())
    return swept


def with_size(method: str, size: int, width: int) -> str:
    """A configuration of an adapter with that size, in a base model of that hidden width.

    Raises:
        ConfigError: if it has no option for its size, or the size is none.
    """
    if size < 1:
        raise ConfigError(f"sizes are at least 1, not {size}")
    options = load_config(method).to_dict()
    if "reduction_factor" in options:
        # Half a unit more than the size, so that rounding down gives it.
        option, value = "reduction_factor", f"{width // size if width % size == 0 else round(width / (size + 0.5), 6)}"
    else:
        option, value = next((name for name in _SIZES if name in options), ""), str(size)
    if not option:
        raise ConfigError(f"{method!r} has no one size: leave out the sizes, or name configurations as methods")
    inner = f"{method[:-1]}, " if method.endswith("]") else f"{method}["
    return f"{inner}{option}={value}]"


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, in the place of one that is there."""
    whole = target.with_name(f".{target.name}.partial")
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(source, whole)
    shutil.rmtree(target, ignore_errors=True)
    whole.replace(target)


def _width(model: str) -> int:
    with loading(model):
        return int(AutoConfig.from_pretrained(resolve_backbone(model)).get_text_config().hidden_size)


def _run(point: Point, seed: int, base: Settings, data: TextData) -> Run:
    settings = replace(base, method=point.configuration, learning_rate=point.learning_rate, seed=seed)
    return Run(f"{point.name}-seed-{seed}", settings, data)


def _validation(outcome: Outcome) -> float:
    return -1.0 if outcome.result is None else outcome.result.validation_accuracy


def _plain(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome) | {"folder": str(outcome.folder)}


def _csv(swept: Swept) -> str:
    """A line for each run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_line(swept.best.point, swept.chosen)])
    writer.writeheader()
    for one in swept.tried:
        writer.writerows(_line(one.point, outcome) for outcome in one.outcomes)
    return text.getvalue()


def _line(point: Point, outcome: Outcome) -> Mapping[str, Any]:
    measured = ("validation_accuracy", "test_accuracy", "test_macro_f1", "trained", "file_size", "seconds", "collapsed")
    return {
        "run": outcome.name,
        "method": point.method,
        "size": point.size,
        "learning_rate": point.learning_rate,
        "seed": outcome.settings.seed,
        **{name: getattr(outcome.result, name, None) for name in measured},
        "error": outcome.error,
    }
