"""How long training is expected to take, by steps, rows and runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapterhub.training import estimate
from adapterhub.training.data import load_data
from adapterhub.training.settings import Settings


@pytest.fixture
def settings(backbone: Path) -> Settings:
    return Settings(str(backbone), epochs=3, batch_size=10, precision="fp32")


def test_runs_add_up(settings: Settings, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 training rows are 5 steps an epoch; 4 evaluations of 16 rows and one of 16 are 8 steps' worth of rows."""
    step = {"full": 2.0, "head": 0.5}
    monkeypatch.setattr(estimate, "_seconds_of_step", lambda settings, data: step[settings.method])
    one = {name: 10 + seconds * (15 + 0.35 * 8) for name, seconds in step.items()}
    data = load_data(labelled)
    assert estimate.estimate_seconds(settings, data, {"full": 1}) == pytest.approx(one["full"])
    both = estimate.estimate_seconds(settings, data, {"full": 2, "head": 3})
    assert both == pytest.approx(2 * one["full"] + 3 * one["head"])


def test_a_step_is_timed_for_every_kind_of_method(settings: Settings, labelled: Path) -> None:
    for method in ("seq_bn", "full", "head"):
        assert 0 < estimate._seconds_of_step(replace(settings, method=method), load_data(labelled)) < 5


def test_data_of_a_few_rows_will_do(settings: Settings, labelled: Path) -> None:
    data = load_data(labelled)
    few = replace(data, train=data.train.select(range(3)))
    assert estimate.estimate_seconds(settings, few, {"head": 1}) > 10
