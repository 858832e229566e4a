"""Many trainings in one call.

The folder holds ``runs.json``, which says what each run is and what became of it, while it trains ``checkpoint``, and a
folder for each run with ``adapter`` and ``metrics.json``, as a training alone leaves them.
"""

import json
import os
import shutil
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapterhub.errors import BackboneError, TrainingError
from adapterhub.training.compare import write_json
from adapterhub.training.many.runs import Outcome, Run, check_runs
from adapterhub.training.many.state import runs_in
from adapterhub.training.many.together import CHECKPOINT, Together
from adapterhub.training.progress import Progress
from adapterhub.training.settings import Result
from adapterhub.training.single import METRICS
from adapterhub.training.trunk_cache import TrunkCache

_RUNS = "runs.json"


def train_many(
    runs: Sequence[Run],
    output_dir: str | os.PathLike[str] = "runs/many",
    *,
    trunk_cache: TrunkCache | str | Path | bool | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Outcome, ...]:
    """Train many adapters over one frozen base model in one process, and leave each in a folder of its name.

    What the base model does below the lowest adapter is computed once for all runs that see the same rows in the same
    order (``data``, ``data_seed`` or else ``seed``, ``batch_size`` and ``max_length`` of the settings), and their
    adapters act side by side. Other runs train in the same steps, on batches of their own. Every run has its own
    optimiser, learning-rate schedule, gradient norm, random numbers, early stopping, best epoch and head, so that it
    gives what it gives alone (``train_classifier``) but for rounding. Runs for several base models come one base model
    after the other. With ``base_dropout`` runs that share a batch share what is dropped below the lowest adapter.

    A run that fails (settings that do not fit, a loss that is no number) has an ``error`` and no ``result``; the others
    go on without it. What is in ``output_dir`` already is gone on with, and finished runs are not done again.

    Args:
        runs: their names, settings and data.
        output_dir: where ``runs.json`` and a folder for each run go.
        trunk_cache: compute what lies below all adapters once, and not in every epoch: True keeps it in memory, a
            folder in files that later runs find again.
        overwrite: train anew what was begun or done before.
        progress: called with the number of steps done, of all steps, and what is under way.

    Raises:
        ConfigError: if there are no runs, or two of one name.
        TrainingError: if the folder holds a run of the same name and other settings or data, or an unfinished training
            of runs that are not among these.
        TrunkError: with a trunk cache, if an adapter acts in the lowest layer, or the model cannot run above it.
        TrainingInterrupted: if it was stopped by a signal; the same call goes on with it.
    """
    check_runs(runs)
    record = _Record(Path(output_dir))
    if overwrite:
        record.forget(runs)
    record.begin(runs)
    cache = TrunkCache.of(trunk_cache)
    failed: dict[str, str] = {}  # for want of a base model, which may be there the next time
    for own in _in_turn(runs, record):
        try:
            together = Together(own, record.folder, cache)
        except BackboneError as error:
            failed |= {run.name: str(error) for run in own}
        else:
            record.finish(own, together.train(progress), together.errors)
    return tuple(record.outcome(run, failed.get(run.name)) for run in runs)


def _in_turn(runs: Sequence[Run], record: "_Record") -> Iterator[list[Run]]:
    """Runs that are not done, by those that train together: first those that were begun."""
    begun = runs_in(record.folder / CHECKPOINT)
    if missing := begun - {run.name for run in runs}:
        raise TrainingError(
            f"{record.folder} holds an unfinished training of other runs too ({', '.join(sorted(missing))}): give "
            "these as well, or overwrite it"
        )
    together: dict[tuple[bool, Hashable], list[Run]] = {}
    for run in runs:
        if not record.is_done(run):
            together.setdefault((run.name not in begun, run.base), []).append(run)
    yield from (together[key] for key in sorted(together, key=lambda key: key[0]))


class _Record:
    """``runs.json``: settings, data and end of every run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / _RUNS
        self._known: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            try:
                self._known = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise TrainingError(f"{self._path} is damaged: remove it to start anew") from error

    def begin(self, runs: Sequence[Run]) -> None:
        """Note runs that are to be done.

        Raises:
            TrainingError: for one of a name that is taken by another.
        """
        for run in runs:
            wanted = {"settings": asdict(run.settings), "data": run.data.fingerprint}
            known = self._known.setdefault(run.name, {**wanted, "done": False, "error": None})
            if {name: known.get(name) for name in wanted} != wanted:
                raise TrainingError(
                    f"{self.folder} holds another run {run.name!r}, of other settings or data: give this one another "
                    "name or folder, or overwrite that one"
                )
        write_json(self._path, self._known)

    def finish(self, runs: Sequence[Run], results: dict[str, Result], errors: dict[str, str]) -> None:
        """Note what became of runs."""
        for run in runs:
            self._known[run.name] |= {"done": True, "error": errors.get(run.name)}
        write_json(self._path, self._known)
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)

    def forget(self, runs: Sequence[Run]) -> None:
        """Take runs for ones that were never begun."""
        for run in runs:
            self._known.pop(run.name, None)
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)

    def is_done(self, run: Run) -> bool:
        """Whether it has ended, with a result or without."""
        return bool(self._known[run.name]["done"])

    def outcome(self, run: Run, failed: str | None = None) -> Outcome:
        """What became of a run, which is done or has ``failed``."""
        folder, error = self.folder / run.name, failed or self._known[run.name]["error"]
        if error is not None:
            return Outcome(run.name, run.settings, folder, error=error)
        values = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return Outcome(run.name, run.settings, folder, Result.from_dict(values))
