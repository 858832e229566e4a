"""The comparison: what is run, what is chosen on what, and what is kept."""

import json
import math
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import adapterhub
from adapterhub.cli import app as cli
from adapterhub.errors import BackboneError, ConfigError, DataError, TrainingError
from adapterhub.training import compare as module
from adapterhub.training.compare import Comparison, compare, default_rates
from adapterhub.training.settings import Result, Settings
from processes import children, runs, wait_for

Run = tuple[str, float, int]
RATES = {"seq_bn": (1e-3, 3e-3), "full": (1e-5, 2e-5), "head": (1e-2, 3e-2)}


class Played:
    """Runs that are not done: what they reach is a function of method, rate and seed."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.collapsed: set[Run] = set()

    def __call__(self, runner: Any, settings: Settings, path: Path, what: str) -> None:
        run = (settings.method, settings.learning_rate, settings.seed)
        self.runs.append(run)
        result = Result(
            settings, *self.accuracies(run), 0.5, ((1.0, 0.4),), ((1.0, 0.5),), run in self.collapsed, 10, 2, 100, 300,
            1.5, 1000, "fp32",
        )  # fmt: skip
        module.write_json(path, asdict(result))

    @staticmethod
    def accuracies(run: Run) -> tuple[float, float]:
        """Validation is better with the larger rate, test with the smaller one."""
        method, rate, seed = run
        larger = rate == max(RATES[method])
        return (0.8 if larger else 0.7), (0.6 if larger else 0.9) + 0.01 * seed**2


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    runs = Played()
    monkeypatch.setattr(module._Runner, "_do", lambda *given: runs(*given))
    return runs


def test_rates_are_chosen_on_validation_with_the_first_seed(
    played: Played, backbone: Path, labelled: Path, tmp_path: Path
) -> None:
    found = compare(str(backbone), labelled, tuple(RATES), seeds=(4, 5, 7), learning_rates=RATES, output_dir=tmp_path)
    expected = []
    for method, (small, large) in RATES.items():
        expected += [(method, small, 4), (method, large, 4), (method, large, 5), (method, large, 7)]
    assert played.runs == expected
    for method, (_, large) in zip(found.methods, RATES.values(), strict=True):
        assert method.learning_rate == large and len(method.sweep) == 2
        assert [run.settings.seed for run in method.runs] == [4, 5, 7]
        tests = [0.6 + 0.16, 0.6 + 0.25, 0.6 + 0.49]
        mean = sum(tests) / 3
        assert method.mean == pytest.approx(mean)
        assert method.spread == pytest.approx(math.sqrt(sum((test - mean) ** 2 for test in tests) / 2))


def test_rates_may_be_tried_with_several_seeds(
    played: Played, backbone: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accuracies(run: Run) -> tuple[float, float]:
        """With the first seed alone the smaller rate is better on validation, on the mean of two the larger one."""
        _, rate, seed = run
        return {(1e-3, 4): 0.8, (3e-3, 4): 0.79, (1e-3, 5): 0.7, (3e-3, 5): 0.75}.get((rate, seed), 0.1), 0.5

    monkeypatch.setattr(Played, "accuracies", staticmethod(accuracies))
    options = {"seeds": (4, 5, 7), "learning_rates": RATES, "output_dir": tmp_path}
    (one,) = compare(str(backbone), labelled, ["seq_bn"], **options).methods
    assert one.learning_rate == 1e-3
    played.runs.clear()
    (two,) = compare(str(backbone), labelled, ["seq_bn"], sweep_seeds=2, **options).methods
    assert two.learning_rate == 3e-3 and len(two.sweep) == 4
    assert two.by_rate() == pytest.approx({1e-3: 0.75, 3e-3: 0.77})
    assert [run.settings.seed for run in two.runs] == [4, 5, 7]
    assert {run.settings.learning_rate for run in two.runs} == {3e-3}
    assert played.runs == [("seq_bn", 3e-3, 5), ("seq_bn", 3e-3, 7)]  # the others were there
    for wrong in (0, 4):
        with pytest.raises(ConfigError, match="sweep_seeds"):
            compare(str(backbone), labelled, ["seq_bn"], sweep_seeds=wrong, **options)


def test_one_seed_has_no_spread(played: Played, backbone: Path, labelled: Path, tmp_path: Path) -> None:
    found = compare(str(backbone), labelled, ["head"], seeds=1, learning_rates=RATES, output_dir=tmp_path)
    assert found.methods[0].spread == 0.0 and found.seeds == (0,)


def test_a_collapse_is_named_by_its_seed(played: Played, backbone: Path, labelled: Path, tmp_path: Path) -> None:
    played.collapsed = {("full", 2e-5, 1), ("full", 2e-5, 2), ("full", 1e-5, 0)}
    found = compare(str(backbone), labelled, ["full", "head"], learning_rates=RATES, output_dir=tmp_path)
    assert [method.collapsed for method in found.methods] == [(1, 2), ()]


def test_it_is_written_and_read_back(played: Played, backbone: Path, labelled: Path, tmp_path: Path) -> None:
    compare(str(backbone), labelled, tuple(RATES), learning_rates=RATES, output_dir=tmp_path)
    values = json.loads((tmp_path / "comparison.json").read_text())
    assert json.loads(json.dumps(Comparison.from_dict(values).to_dict())) == values
    runs = [run["test_accuracy"] for run in values["methods"][0]["runs"]]
    assert values["methods"][0]["mean"] == pytest.approx(statistics.fmean(runs))
    assert values["data"]["rows"] == {"train": 48, "validation": 16, "test": 16}
    assert values["versions"]["adapterhub"] == adapterhub.__version__ and values["machine"]["cores"] == os.cpu_count()


def test_what_is_there_is_not_done_again(played: Played, backbone: Path, labelled: Path, tmp_path: Path) -> None:
    first = compare(str(backbone), labelled, tuple(RATES), learning_rates=RATES, output_dir=tmp_path)
    count = len(played.runs)
    again = compare(str(backbone), labelled, tuple(RATES), learning_rates=RATES, output_dir=tmp_path)
    assert len(played.runs) == count and again == first
    compare(str(backbone), labelled, ["head"], seeds=4, learning_rates=RATES, output_dir=tmp_path)
    assert played.runs[count:] == [("head", 3e-2, 3)]
    compare(str(backbone), labelled / "train.csv", ["head"], seeds=1, learning_rates=RATES, output_dir=tmp_path)
    other = Settings(max_length=64)
    compare(str(backbone), labelled, ["head"], seeds=1, learning_rates=RATES, settings=other, output_dir=tmp_path)
    assert len(played.runs) == count + 1 + 2 + 2, "other data and other settings are other runs"


def test_progress_ends_at_the_number_of_runs(played: Played, backbone: Path, labelled: Path, tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    compare(
        str(backbone), labelled, ["full", "head"], learning_rates=RATES, output_dir=tmp_path,
        progress=lambda *what: told.append(what),
    )  # fmt: skip
    assert told[0] == (0.0, 8, "full, rate 1e-05, seed 0") and told[-1] == (8.0, 8, "head, rate 0.03, seed 2")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_by_default_adapters_are_held_against_full_and_head(
    backbone: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(module, "_check", lambda rates: seen.append(rates) or (_ for _ in ()).throw(ConfigError("")))
    with pytest.raises(ConfigError):
        compare(str(backbone), labelled, output_dir=tmp_path)
    (rates,) = seen
    assert tuple(rates) == ("seq_bn", "lora", "full", "head")
    assert rates == {method: default_rates(method) for method in rates}
    assert {len(sweep) for sweep in rates.values()} == {3}


def test_what_is_wrong_shows_before_the_first_run(
    played: Played, backbone: Path, labelled: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="seq_bm"):
        compare(str(backbone), labelled, ["seq_bm"], output_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"same size.* seq_bn: 2, full: 3"):
        compare(str(backbone), labelled, ["seq_bn", "full"], learning_rates={"seq_bn": (1, 2)}, output_dir=tmp_path)
    with pytest.raises(BackboneError, match="nowhere"):
        compare(str(tmp_path / "nowhere"), labelled, output_dir=tmp_path)
    with pytest.raises(DataError, match="nothing"):
        compare(str(backbone), tmp_path / "nothing", output_dir=tmp_path)
    assert not played.runs


# From here on, runs are real: processes of their own.

SETTINGS = Settings(epochs=2, batch_size=8, precision="fp32")


def test_runs_in_their_own_processes(backbone: Path, labelled: Path, tmp_path: Path) -> None:
    rates = {"seq_bn": (1e-2,), "full": (1e-2,)}
    shares: list[float] = []
    found = adapterhub.compare(
        str(backbone), labelled, ["seq_bn", "full"], seeds=1, learning_rates=rates, settings=SETTINGS,
        output_dir=tmp_path, progress=lambda done, total, what: shares.append(done),
    )  # fmt: skip
    adapter, full = (method.runs[0] for method in found.methods)
    assert 0 < adapter.trained < full.trained == full.base == adapter.base and adapter.head == full.head
    assert adapter.file_size < full.file_size
    assert any(0 < share < 1 for share in shares) and shares[-1] == 2
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "runs").iterdir()) == [
        "full-0.01-0",
        "seq_bn-0.01-0",
    ]


def test_a_run_that_fails_says_why(backbone: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(backbone, tmp_path / "torn")
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match=r"the run head-0\.01-0-\w+ failed: BackboneError: .*torn"):
        compare(str(tmp_path / "torn"), labelled, ["head"], learning_rates={"head": (1e-2,)}, output_dir=tmp_path)
    assert not (tmp_path / "comparison.json").exists()


@pytest.mark.parametrize(
    ("errors", "code", "reason"),
    [
        ("Traceback\n  line\nadapterhub.errors.DataError: no rows: none", 1, "DataError: no rows: none"),
        ("", -9, "exit code -9 (killed: out of memory?)"),
        ("", 3, "exit code 3"),
    ],
)
def test_the_reason_is_the_last_line(errors: str, code: int, reason: str) -> None:
    assert module._reason(errors, code) == reason


def test_an_interruption_keeps_finished_runs_and_leaves_no_process(
    backbone: Path, labelled: Path, tmp_path: Path
) -> None:
    arguments = ["compare", str(labelled), "-m", str(backbone), "-o", str(tmp_path), "--json", "--epochs", "2"]
    arguments += ["--method", "head", "--lr", "head=1e-2", "--seeds", "2"]
    command = [sys.executable, "-m", "adapterhub.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = wait_for(lambda: next((tmp_path / "runs").glob("head-0.01-0-*.json"), None))
        child = wait_for(lambda: children(process.pid))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    error = json.loads(output)["error"]
    assert error["type"] == "Interrupted" and shlex.split(error["resume"]) == ["adapterhub", *arguments]
    wait_for(lambda: not any(runs(pid) for pid in child))
    before = first.stat().st_mtime_ns
    assert cli.run(arguments) == 0
    assert first.stat().st_mtime_ns == before and (tmp_path / "comparison.json").exists()
