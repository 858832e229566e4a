"""The sweep: every architecture in a process of its own, with a time limit, the outcomes kept as they come."""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from adapterhub.errors import ConfigError
from adapterhub.sweep.architectures import names
from adapterhub.sweep.outcome import Outcome, examine
from adapterhub.sweep.report import Report
from adapterhub.training.progress import Progress

_PRELOADED = ["adapterhub.sweep.outcome", "adapterhub.saving"]


def sweep(
    only: Sequence[str] = (),
    folder: Path = Path("runs/sites"),
    *,
    jobs: int = 1,
    limit: float = 120.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check adapters in every architecture that transformers knows, or in some of them.

    Args:
        only: types of models (``"bert"``) that are checked, whether they were before or not; by default all are that
            were not.
        folder: where outcomes are kept as they come, and the report of all in the end (``architectures.json``).
        jobs: how many processes run at a time.
        limit: seconds that one architecture may take.
        overwrite: forget what is kept.
        progress: told of each outcome.

    Raises:
        ConfigError: for a name that transformers does not know.
    """
    wanted = tuple(only) or names()
    for name in set(wanted) - set(names()):
        near = ", ".join(get_close_matches(name, names(), n=3)) or "none"
        raise ConfigError(f"transformers {version('transformers')} has no base model of type {name!r}; near: {near}")
    kept = folder / f"transformers-{version('transformers')}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        kept.unlink(missing_ok=True)
    known = {} if only else {outcome.name: outcome for outcome in read(kept)}
    missing = [name for name in wanted if name not in known]
    with kept.open("a", encoding="utf-8") as file:
        for outcome in _outcomes(missing, jobs, limit):
            known[outcome.name] = outcome
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
            if progress is not None:
                progress(sum(name in known for name in wanted), len(wanted), outcome.name)
    report = Report.of(known[name] for name in wanted)
    if not only:
        report.write(folder / "architectures.json")
    return report


def read(kept: Path) -> Iterator[Outcome]:
    """The outcomes in a file of JSON lines; a line that an interruption cut short is left out."""
    if not kept.exists():
        return
    for line in kept.read_text(encoding="utf-8").splitlines():
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue


@dataclass
class _Job:
    name: str
    process: BaseProcess
    answer: Connection
    deadline: float


def _outcomes(wanted: Iterable[str], jobs: int, limit: float) -> Iterator[Outcome]:
    waiting, running = list(reversed(list(wanted))), list[_Job]()
    context = _context()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(context, waiting.pop(), limit))
            first = min(job.deadline for job in running)
            wait([job.answer for job in running], timeout=max(0.0, first - time.monotonic()))
            for job in [job for job in running if job.answer.poll() or time.monotonic() > job.deadline]:
                running.remove(job)
                yield _answer(job, limit)
    finally:
        for job in running:
            _stop(job)


def _start(context: Any, name: str, limit: float) -> _Job:
    answer, given = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, given), daemon=True)
    process.start()
    given.close()
    return _Job(name, process, answer, time.monotonic() + limit)


def _answer(job: _Job, limit: float) -> Outcome:
    try:
        if job.answer.poll():
            found: Outcome = job.answer.recv()
            return found
        return Outcome.failed(job.name, f"took more than {limit:g} seconds")
    except EOFError:
        job.process.join(10)
        return Outcome.failed(job.name, f"its process ended with code {job.process.exitcode}")
    finally:
        _stop(job)


def _stop(job: _Job) -> None:
    job.process.kill()
    job.process.join()
    job.answer.close()


def _context() -> Any:
    """Processes that start with the libraries loaded, where the system can fork."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _work(name: str, answer: Connection) -> None:
    """One architecture, in a process of its own."""
    import logging
    import warnings

    import torch
    from transformers.utils.logging import set_verbosity_error

    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    set_verbosity_error()
    torch.set_num_threads(1)
    answer.send(examine(name))
