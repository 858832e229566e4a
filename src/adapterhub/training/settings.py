"""What a training run depends on, and what it gave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from adapterhub.errors import ConfigError

Precision = Literal["auto", "bf16", "fp32"]
FULL, HEAD = "full", "head"


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside the data.

    ``method`` is ``"full"``, ``"head"``, or the configuration of an adapter (``"seq_bn[reduction_factor=6]"``).
    ``patience`` is the number of epochs without a better validation accuracy after which training ends.
    ``batch_size`` is the mean number of rows of a batch: rows of like length share one, and it is filled up to as many
    tokens, padding included, that there are ``batch_size`` rows on average and at most twice as many.
    ``precision`` ``"auto"`` computes in bfloat16 where the machine has instructions for it. ``warmup`` is a share of
    all steps. ``data_seed`` decides the order of rows, by default as ``seed`` does: runs of several seeds with one
    ``data_seed`` see the same batches. ``base_dropout`` keeps the dropout of a frozen base model, which takes longer;
    adapter and head have theirs either way.

    Raises:
        ConfigError: for a value that no training can have.
    """

    model: str = "minilm"
    method: str = "seq_bn"
    learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int = 32
    max_length: int = 128
    warmup: float = 0.1
    weight_decay: float = 0.0
    patience: int = 3
    precision: Precision = "auto"
    seed: int = 0
    data_seed: int | None = None
    base_dropout: bool = False

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "max_length": 4, "patience": 1, "seed": 0, "learning_rate": 0.0}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ConfigError(f"{name} is at least {value}, not {getattr(self, name)}")
        if not 0.0 <= self.warmup <= 1.0:
            raise ConfigError(f"warmup is a share of all steps, from 0 to 1, not {self.warmup}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is one of {', '.join(get_args(Precision))}, not {self.precision!r}")


@dataclass(frozen=True)
class Result:
    """What a run gave; accuracies and F1 are fractions, seconds are those of training, memory is in bytes.

    ``trained`` counts the parameters trained without the head, ``head`` those of the head, ``base`` those of the base
    model; ``file_size`` is that of all files that have to be kept for the task. ``peak_memory`` is the largest
    resident size of the process.
    """

    settings: Settings
    validation_accuracy: float
    test_accuracy: float
    test_macro_f1: float
    losses: tuple[tuple[float, float], ...]
    validation_curve: tuple[tuple[float, float], ...]
    collapsed: bool
    trained: int
    head: int
    base: int
    file_size: int
    seconds: float
    peak_memory: int
    precision: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """Read back what ``dataclasses.asdict`` gave."""
        curves = {name: tuple(map(tuple, values[name])) for name in ("losses", "validation_curve")}
        return cls(**{**values, **curves, "settings": Settings(**values["settings"])})
