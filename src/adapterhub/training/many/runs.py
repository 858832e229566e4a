"""What is asked of a training of many adapters, and what became of each."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from adapterhub.engine.named import check_name
from adapterhub.errors import ConfigError
from adapterhub.training.data import TextData
from adapterhub.training.settings import Result, Settings

_OF_BATCHES = ("max_length", "batch_size")
_OF_RUN = ("method", "learning_rate", "epochs", "warmup", "weight_decay", "patience", "seed", "data_seed")


@dataclass(frozen=True)
class Run:
    """One training of many: its name, which is that of its folder, its settings and its data."""

    name: str
    settings: Settings
    data: TextData

    @property
    def adapter(self) -> str:
        """The name of its adapter: dots are for the paths of parameters."""
        return self.name.replace(".", "-")

    @property
    def base(self) -> Hashable:
        """What runs have in common that train over one base model: all but what is named above."""
        own = (*_OF_BATCHES, *_OF_RUN)
        return tuple(getattr(self.settings, one.name) for one in fields(Settings) if one.name not in own)

    @property
    def batches(self) -> Hashable:
        """What runs have in common that see the same rows in the same batches."""
        settings = self.settings
        order = settings.seed if settings.data_seed is None else settings.data_seed
        return (self.data.fingerprint, order, *(getattr(settings, name) for name in _OF_BATCHES))


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its ``result`` and the ``folder`` of its adapter, or the ``error`` that ended it."""

    name: str
    settings: Settings
    folder: Path
    result: Result | None = None
    error: str | None = None


def check_runs(runs: Iterable[Run]) -> None:
    """Pass runs of which each can have a folder and an adapter of its own.

    Raises:
        ConfigError: for no run, two of one name, or a name that can be no folder's.
    """
    seen: set[str] = set()
    for run in runs:
        check_name(run.adapter)
        if "/" in run.name or "\\" in run.name or run.name.startswith("."):
            raise ConfigError(f"{run.name!r} cannot be the name of a run: it is that of a folder")
        if run.adapter in seen:
            raise ConfigError(f"two runs have the name {run.name!r}: each has a folder of its own")
        seen.add(run.adapter)
    if not seen:
        raise ConfigError("there are no runs to train")
