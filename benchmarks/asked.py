"""What the library's speed was to show, and what of that the results do show."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A bound that was set beforehand.

    Attributes:
        what: what is measured.
        benchmark: whose result has it.
        bound: the most that it may be, or the least.
        found: the measured figure in that result: a number, or a ratio with its interval.
        least: whether the bound is the least.
        unit: of the bound and the figure, after a space; empty for a ratio.
    """

    what: str
    benchmark: str
    bound: float
    found: Callable[[Any], Any]
    least: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Answer:
    """A bound with what was found: the figure, and the ends of its interval where it has one."""

    asked: Asked
    value: float
    interval: tuple[float, float] | None

    @property
    def met(self) -> bool:
        """Whether the figure, by itself, keeps to the bound."""
        return self.value >= self.asked.bound if self.asked.least else self.value <= self.asked.bound

    def used(self, value: float) -> float:
        """The part of the bound that a figure takes: over 1 is too much."""
        return self.asked.bound / value if self.asked.least else value / self.asked.bound


def _points_lost(result: Any) -> float:
    found = result["results"]
    return 100 * (found["default"]["test"] - found["fast"]["test"])


ASKED = (
    Asked(
        "time to the same accuracy, `adapterhub train` against `AdapterTrainer` of `adapters`, both at their defaults",
        "train_time",
        1 / 3,
        lambda result: result["results"]["ours_against_plain"]["to_target"],
    ),
    Asked(
        "points of test accuracy less than that peer",
        "train_time",
        0.5,
        lambda result: -result["results"]["ours_against_plain"]["test_points"],
        unit=" points",
    ),
    Asked(
        "the same time, with bfloat16 and batches of like length in that peer",
        "train_time",
        3 / 4,
        lambda result: result["results"]["ours_against_tuned"]["to_target"],
    ),
    Asked("time of `--fast` against our own defaults", "fast", 1 / 2, lambda result: result["results"]["fast"]),
    Asked("points of test accuracy that `--fast` loses", "fast", 1.0, _points_lost, unit=" points"),
    Asked(
        "16 adapters trained together against 16 runs, float32",
        "sweep_time",
        0.75,
        lambda result: result["fp32"]["a run"]["together"],
    ),
    Asked(
        "the same in bfloat16",
        "sweep_time",
        0.75,
        lambda result: result["bf16"]["a run"]["together"],
    ),
    Asked(
        "16 adapters trained together with a trunk cache against 16 runs, float32",
        "sweep_time",
        0.5,
        lambda result: result["fp32"]["a run"]["cached"],
    ),
    Asked(
        "the same in bfloat16",
        "sweep_time",
        0.5,
        lambda result: result["bf16"]["a run"]["cached"],
    ),
    Asked(
        "64 rows of 64 adapters against 64 rows of one, float32",
        "rows",
        1.05,
        lambda result: result["results"]["float32_64_each"],
    ),
    Asked("the same in bfloat16", "rows", 1.05, lambda result: result["results"]["bfloat16_64_each"]),
    Asked(
        "8 tasks on the same input, adapters in the top half, against 8 passes",
        "rows",
        0.65,
        lambda result: result["results"]["tasks_parallel"],
    ),
    Asked(
        "rows a second of `adapterhub predict` against a pipeline with an adapter of `adapters`, both at their "
        "defaults",
        "predict",
        3.0,
        lambda result: result["against_peer"]["results"]["adapters"],
        least=True,
    ),
    Asked(
        "an active adapter at batch 1 against the bare model",
        "latency",
        1.06,
        lambda result: result["results"]["ours"],
    ),
    Asked("the same, both compiled", "latency", 1.03, lambda result: result["compiled"]["ours"]),
    Asked(
        "10,000 adapters registered", "loading", 3.0, lambda result: result["results"]["register"]["seconds"], unit=" s"
    ),
    Asked(
        "1,000 of them loaded from disk",
        "loading",
        2.0,
        lambda result: result["results"]["load"]["seconds"],
        unit=" s",
    ),
    Asked(
        "one of these activated",
        "loading",
        50.0,
        lambda result: result["results"]["load"]["activate_microseconds"],
        unit=" µs",
    ),
    Asked(
        "memory of the 1,000 against the size of their weights",
        "loading",
        1.1,
        lambda result: result["results"]["load"]["resident_to_weights"],
    ),
    Asked(
        "`import adapterhub` against `import torch, transformers`",
        "loading",
        1.1,
        lambda result: result["results"]["import"]["adapterhub"],
    ),
    Asked(
        "bytes of a trained adapter in int8 against float32",
        "shrink",
        0.25,
        lambda result: result["versions"]["int8"]["share of the bytes"],
    ),
    Asked(
        "points of test accuracy that int8 loses",
        "shrink",
        0.3,
        lambda result: result["versions"]["int8"]["points lost"],
        unit=" points",
    ),
)


def answers(results: Mapping[str, Any]) -> Iterator[Answer]:
    """Every bound of which the results have the figure, in order."""
    for asked in ASKED:
        if asked.benchmark in results:
            try:
                found = asked.found(results[asked.benchmark])
            except KeyError:  # a part that was left out of this run
                continue
            if isinstance(found, Mapping):
                low, high = found["ratio_interval"]
                yield Answer(asked, found["ratio"], (low, high))
            else:
                yield Answer(asked, found, None)


def bound(asked: Asked) -> str:
    """``at most 0.75``, ``at least 3``."""
    return f"at {'least' if asked.least else 'most'} {asked.bound:.3g}{asked.unit}"


def figure(answer: Answer) -> str:
    """``0.524 [0.516, 0.533]``, ``1.72 s``."""
    if answer.asked.unit:
        return f"{answer.value:.3g}{answer.asked.unit}" if abs(answer.value) >= 0.005 else f"0{answer.asked.unit}"
    ends = "" if answer.interval is None else f" [{answer.interval[0]:.3f}, {answer.interval[1]:.3f}]"
    return f"{answer.value:.3f}{ends}"
