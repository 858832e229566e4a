"""The measurement itself: turns are shared fairly, ratios and intervals are right, results are kept whole."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ANSWERING = """
import sys
print("noise")
print("@{}", flush=True)
for line in sys.stdin:
    print("@", [0.5] * int(line), flush=True)
"""
PATH = Path(__file__).parents[2] / "benchmarks" / "workers.py"


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_workers", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    return module


class Clock:
    """A worker whose steps take a known time, on a machine that gets slower from turn to turn."""

    turns: list[str] = []

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def time(self, steps: int) -> list[float]:
        self.turns.append(self.name)
        return [self.seconds * (1 + (len(self.turns) // 3))] * steps


def test_order_turns_from_round_to_round(workers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "turns", [])
    times = workers.interleave({name: Clock(name, 1.0) for name in "abc"}, rounds=3, steps=2)
    assert "".join(Clock.turns) == "abc" + "abc" + "bca" + "cab"  # once to warm up
    assert list(times) == ["a", "b", "c"]
    assert all([len(steps) for steps in rounds] == [2, 2, 2] for rounds in times.values())


def test_ratio_is_that_of_the_rounds_and_a_slow_spell_cancels(workers: ModuleType) -> None:
    slow = [1.0, 1.0, 7.0, 1.0, 1.0]
    times = {
        "base": [[0.010 * factor] * 3 for factor in slow],
        "half": [[0.005 * factor, 0.005 * factor, 9.0] for factor in slow],  # the median drops the outlier
    }
    result = workers.summary(times, {"half": "base"})
    assert result["base"] == {"milliseconds": 10.0}
    assert result["half"] == {"milliseconds": 5.0, "against": "base", "ratio": 0.5, "ratio_interval": [0.5, 0.5]}


def test_interval_is_that_of_the_median(workers: ModuleType) -> None:
    values = [float(value) for value in range(101)]
    low, high = workers.interval(values)
    # Order statistics of rank n/2 +- 1.96 sqrt(n)/2 bound the median of n values: 50 +- 9.85.
    assert abs(low - 40) < 2.5 and abs(high - 60) < 2.5
    assert workers.interval(values) == (low, high)


def test_a_result_is_kept_whole_or_not_at_all(workers: ModuleType, tmp_path: Path) -> None:
    workers.save("speed", {"ratio": 1.5})
    folder = tmp_path / "benchmarks" / "results"
    with pytest.raises(TypeError):
        workers.save("speed", {"ratio": object()})
    assert json.loads((folder / "speed.json").read_text()) == {"ratio": 1.5}
    assert [path.name for path in folder.iterdir()] == ["speed.json"]


def test_a_worker_answers_and_its_failure_is_told(workers: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "benchmarks" / "worker.py"
    script.write_text(ANSWERING)
    worker = workers.Worker(Path(sys.executable), "any", "task")
    assert worker.about == {} and worker.time(2) == [0.5, 0.5]
    worker.close()
    assert worker.process.returncode == 0
    script.write_text("raise ValueError('no such model')\n")
    with pytest.raises(RuntimeError, match=r"exit code 1:(.|\n)*no such model"):
        workers.Worker(Path(sys.executable), "any", "task")
    with pytest.raises(RuntimeError, match="peer-env"):
        workers.Worker(tmp_path / "python", "any", "task")
