"""A grid search: what is tried, what is chosen, and what is left in the folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapterhub.errors import ConfigError, TrainingError
from adapterhub.methods import load_config
from adapterhub.training.classifier import load_classifier
from adapterhub.training.data import TextData, load_data
from adapterhub.training.grid import Grid, sweep, with_size
from adapterhub.training.settings import Settings
from tokens import adapter_bytes


@pytest.fixture(scope="module")
def settings(backbone: Path) -> Settings:
    return Settings(str(backbone), epochs=2, batch_size=8, precision="fp32")


@pytest.fixture(scope="module")
def data(labelled: Path) -> TextData:
    return load_data(labelled)


def test_the_best_on_validation_is_kept(settings: Settings, data: TextData, tmp_path: Path) -> None:
    grid = Grid(("seq_bn", "lora[alpha=4]"), (0.0, 3e-2), (0, 1), (4, 8))
    swept = sweep(data, grid, tmp_path, settings=settings)
    assert [(one.point.method, one.point.size, one.point.learning_rate) for one in swept.tried] == [
        (method, size, rate) for method in grid.methods for size in grid.sizes for rate in grid.learning_rates
    ]
    means = [sum(one.validation) / 2 for one in swept.tried]
    assert swept.best is swept.tried[means.index(max(means))]
    assert swept.chosen.result is not None
    assert swept.chosen.result.validation_accuracy == max(swept.best.validation)
    assert adapter_bytes(tmp_path) == adapter_bytes(swept.chosen.folder)
    model, _ = load_classifier(tmp_path / "adapter")
    assert list(model.adapters) == ["sentences"]
    lines = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [line["run"] for line in lines] == [run.name for one in swept.tried for run in one.outcomes]
    assert {line["seed"] for line in lines} == {"0", "1"} and float(lines[0]["validation_accuracy"]) <= 1
    saved = json.loads((tmp_path / "sweep.json").read_text())
    assert saved["chosen"]["name"] == swept.chosen.name and len(saved["tried"]) == 8 and saved["machine"]
    sizes = {one.point.size: one.outcomes[0].result for one in swept.tried if one.point.method == "seq_bn"}
    width = model.config.hidden_size
    for size, result in sizes.items():
        assert result is not None and size is not None
        assert result.trained == model.config.num_hidden_layers * (2 * width * size + size + width)


def test_a_larger_grid_trains_what_is_new(settings: Settings, data: TextData, tmp_path: Path) -> None:
    first = sweep(data, Grid(learning_rates=(1e-2,)), tmp_path, settings=settings)
    totals: list[float] = []
    second = sweep(
        data,
        Grid(learning_rates=(1e-2, 1e-3)),
        tmp_path,
        settings=settings,
        progress=lambda done, total, what: totals.append(total),
    )
    assert second.tried[0].outcomes == first.tried[0].outcomes and set(totals) == {2 * 6}


def test_runs_that_fail_are_named_and_never_chosen(settings: Settings, data: TextData, tmp_path: Path) -> None:
    swept = sweep(data, Grid(learning_rates=(1e38, 1e-3)), tmp_path / "some", settings=settings)
    failed, best = swept.tried
    assert swept.best is best and not failed.validation and "no finite number" in str(failed.outcomes[0].error)
    with pytest.raises(TrainingError, match="none of 1 combinations could be trained"):
        sweep(data, Grid(learning_rates=(1e38,)), tmp_path / "none", settings=settings)
    with pytest.raises(ConfigError, match="unknown configuration 'seq_bm'"):
        sweep(data, Grid(("seq_bm",), sizes=(4,)), tmp_path / "unknown", settings=settings)


def test_seeds_share_an_order_of_rows(settings: Settings, data: TextData, tmp_path: Path) -> None:
    swept = sweep(data, Grid(learning_rates=(1e-3,), seeds=(3, 4)), tmp_path, settings=replace(settings, epochs=1))
    assert [(run.settings.seed, run.settings.data_seed) for run in swept.best.outcomes] == [(3, 0), (4, 0)]


@pytest.mark.parametrize("size", [1, 5, 7, 16, 31, 50, 100])
def test_a_size_is_a_width_a_rank_or_a_length(size: int) -> None:
    assert int(384 // load_config(with_size("seq_bn", size, 384)).reduction_factor) == size
    assert load_config(with_size("lora[alpha=2]", size, 384)).r == size
    assert load_config(with_size("prefix_tuning", size, 384)).prefix_length == size
    kept = load_config(with_size("seq_bn[leave_out=[0, 1]]", size, 384))
    assert kept.leave_out == (0, 1)


def test_what_has_no_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="'ia3' has no one size"):
        with_size("ia3", 4, 384)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        with_size("seq_bn", 0, 384)
    with pytest.raises(ConfigError, match="learning rates of a grid hold one twice"):
        Grid(learning_rates=(1e-3, 1e-3))
    with pytest.raises(ConfigError, match="at least one of its seeds"):
        Grid(seeds=())
