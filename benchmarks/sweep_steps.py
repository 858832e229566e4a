"""A sweep of 16 adapters in the top half of MiniLM on sentence polarity, or one run of it, a few steps at a time.

Arguments: library (alone, together, cached) and a JSON object of options (precision). ``alone`` is a run as
``adapterhub train`` does it, ``together`` are all 16 as ``adapterhub sweep`` does, ``cached`` the same with a trunk
cache.
"""

import json
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from adapterhub.training.data import load_data
from adapterhub.training.many import Run, train_many
from adapterhub.training.preparing import prepare
from adapterhub.training.recipe import build_trainer
from adapterhub.training.settings import Settings
from rotten_tomatoes import DATA, Paced
from workers import report

METHOD = "seq_bn[reduction_factor=6, leave_out=[0, 1, 2]]"
RATES, SEEDS = (3e-4, 1e-3, 2e-3, 3e-3), range(4)
TRAIN = 2048  # rows: 64 batches, more than are timed


def settings(precision: str, epochs: int = 1000) -> list[Settings]:
    """Those of every run; all see the rows in the same order."""
    return [
        Settings(method=METHOD, learning_rate=rate, seed=seed, data_seed=0, epochs=epochs, precision=precision)
        for rate in RATES
        for seed in SEEDS
    ]


class Pace(Paced):
    """A progress that answers as ``Paced`` does: it is called before the first step, and after each."""

    last: float | None = None

    def __call__(self, done: float, total: float, what: str) -> None:
        if self.last is None:
            self._wait()
        else:
            self.on_step_end(None, None, None)


def few(rows: int) -> Any:
    """The task with so many rows to train, and at most as many to choose and test."""
    data: Any = load_data(DATA)
    splits = {name: split.select(range(min(rows, len(split)))) for name, split in data.splits.items()}
    return replace(data, **splits | {"train": data.train.shuffle(seed=0).select(range(rows))})


def main(library: str, options: str) -> None:
    chosen = settings(**json.loads(options))
    data = few(TRAIN)
    names = ("adapterhub", "torch", "transformers")
    report({name: version(name) for name in names} | {"threads": torch.get_num_threads(), "runs": len(chosen)})
    with tempfile.TemporaryDirectory() as folder:
        if library == "alone":
            trainer = build_trainer(chosen[0], prepare(chosen[0], data), Path(folder))
            trainer.add_callback(Paced())
            trainer.train()
        else:
            runs = [Run(f"run-{number}", one, data) for number, one in enumerate(chosen)]
            train_many(runs, folder, trunk_cache=library == "cached", progress=Pace())


if __name__ == "__main__":
    main(*sys.argv[1:])
