"""Many trainings at once: each gives what it gives alone."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tokens
from adapterhub.errors import ConfigError, TrainingError, TrunkError
from adapterhub.training.data import TextData, load_data
from adapterhub.training.many import Outcome, Run, train_many
from adapterhub.training.settings import Result, Settings
from adapterhub.training.single import train_adapter
from adapterhub.training.trainer import TrainingInterrupted
from adapterhub.training.trunk_cache import TrunkCache
from tokens import adapter_bytes

BOTTLENECK = "seq_bn[reduction_factor=4]"


@pytest.fixture(scope="module")
def settings(backbone: Path) -> Settings:
    return Settings(str(backbone), BOTTLENECK, 1e-2, epochs=3, batch_size=8, precision="fp32", data_seed=0)


@pytest.fixture(scope="module")
def data(labelled: Path) -> TextData:
    return load_data(labelled)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> TextData:
    """Another task, of other labels and longer sentences."""
    rows = [
        {"text": f"{row['text']} and very {row['text']}", "label": index % 3}
        for index, row in enumerate(tokens.sentences(60))
    ]
    return load_data(tokens.write_csv(tmp_path_factory.mktemp("other") / "topics.csv", rows))


def results(outcomes: tuple[Outcome, ...]) -> list[Result]:
    found = [one.result for one in outcomes if one.result is not None]
    assert len(found) == len(outcomes), [one.error for one in outcomes]
    return found


def assert_same(together: Result, alone: Result) -> None:
    """Equal but for rounding, and for what is measured of the process."""
    points, wanted = zip(*together.losses, strict=True), zip(*alone.losses, strict=True)
    for found, expected in zip(points, wanted, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    measured = {"seconds": 0.0, "peak_memory": 0, "losses": ()}
    assert replace(together, **measured) == replace(alone, **measured)


def kinds(folder: Path) -> list[str]:
    """The files of a run, without the digests in their names."""
    return sorted(path.name.partition(".")[0] for path in folder.rglob("*"))


def stop_after(steps: int) -> Callable[[float, float, str], None]:
    """A progress that sends SIGINT, as Ctrl-C does, once so many steps of all runs are done."""
    sent = []

    def progress(done: float, total: float, what: str) -> None:
        if done >= steps and not sent:
            sent.append(True)
            signal.raise_signal(signal.SIGINT)

    return progress


def test_each_gives_what_it_gives_alone(
    settings: Settings, data: TextData, other_data: TextData, tmp_path: Path
) -> None:
    """Side by side on one batch, on batches of its own, and on other data; with dropout in heads and adapters."""
    runs = [
        Run("rate", replace(settings, learning_rate=3e-3), data),
        Run("seed", replace(settings, seed=1), data),
        Run("size", replace(settings, method="seq_bn[reduction_factor=2, dropout=0.2]"), data),
        Run("size-2", replace(settings, method="seq_bn[reduction_factor=2, dropout=0.2]", seed=5), data),
        Run("lora", replace(settings, method="lora[r=4, dropout=0.1]", epochs=2), data),
        Run("order", replace(settings, seed=2, data_seed=None, weight_decay=0.1), data),
        Run("task", replace(settings, seed=3, warmup=0.5), other_data),
    ]
    outcomes = train_many(runs, tmp_path / "many")
    for run, together in zip(runs, results(outcomes), strict=True):
        alone = train_adapter(run.settings, run.data, tmp_path / "alone" / run.name)
        assert_same(together, alone.result)
        assert kinds(tmp_path / "many" / run.name) == kinds(tmp_path / "alone" / run.name)


def test_one_that_gets_no_better_ends_and_the_others_go_on(settings: Settings, data: TextData, tmp_path: Path) -> None:
    still = replace(settings, learning_rate=0.0, patience=1, epochs=4)
    runs = [Run("still", still, data), Run("moving", replace(settings, epochs=4, patience=4), data)]
    ended, whole = results(train_many(runs, tmp_path))
    assert [len(one.validation_curve) for one in (ended, whole)] == [2, 4]
    assert_same(ended, train_adapter(still, data, tmp_path / "alone").result)


def test_one_that_fails_does_not_take_the_others_down(settings: Settings, data: TextData, tmp_path: Path) -> None:
    runs = [
        Run("good", settings, data),
        Run("unknown", replace(settings, method="seq_bm"), data),
        Run("diverges", replace(settings, learning_rate=1e38), data),
        Run("whole", replace(settings, method="full"), data),
        Run("elsewhere", replace(settings, model="./nowhere"), data),
    ]
    good, *bad = train_many(runs, tmp_path / "many")
    alone = train_many(runs[:1], tmp_path / "alone")
    assert good.result is not None and good.error is None
    assert_same(good.result, results(alone)[0])
    words = ["unknown configuration 'seq_bm'", "no finite number in step", "train it alone", "nowhere"]
    for outcome, expected in zip(bad, words, strict=True):
        assert outcome.result is None and expected in str(outcome.error) and not outcome.folder.exists()


def test_an_interrupted_training_goes_on_to_the_same_bits(settings: Settings, data: TextData, tmp_path: Path) -> None:
    runs = [Run("one", settings, data), Run("two", replace(settings, seed=1, data_seed=1), data)]
    train_many(runs, tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        train_many(runs, tmp_path / "cut", progress=stop_after(2 * 8))
    assert not (tmp_path / "cut" / "one").exists()
    results(train_many(runs, tmp_path / "cut"))
    for run in runs:
        assert adapter_bytes(tmp_path / "cut" / run.name) == adapter_bytes(tmp_path / "whole" / run.name)
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["one", "runs.json", "two"]


def test_what_is_done_is_not_done_again(settings: Settings, data: TextData, tmp_path: Path) -> None:
    one, two = (Run(f"rate-{rate}", replace(settings, learning_rate=rate, epochs=1), data) for rate in (1e-2, 1e-3))
    before = results(train_many([one], tmp_path))
    steps: list[float] = []
    both = results(train_many([one, two], tmp_path, progress=lambda done, total, what: steps.append(total)))
    assert both[:1] == before and set(steps) == {6}  # those of the second alone
    with pytest.raises(TrainingError, match=r"another run 'rate-0\.01', of other settings"):
        train_many([replace(one, settings=replace(one.settings, epochs=2))], tmp_path)
    again = results(train_many([replace(one, settings=replace(one.settings, epochs=2))], tmp_path, overwrite=True))
    assert len(again[0].validation_curve) == 2


def test_an_unfinished_training_is_gone_on_with_whole(settings: Settings, data: TextData, tmp_path: Path) -> None:
    runs = [Run("one", settings, data), Run("two", replace(settings, seed=1), data)]
    with pytest.raises(TrainingInterrupted):
        train_many(runs, tmp_path, progress=stop_after(4))
    with pytest.raises(TrainingError, match=r"unfinished training of other runs too \(two\)"):
        train_many(runs[:1], tmp_path)
    (tmp_path / "checkpoint" / "state.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="damaged"):
        train_many(runs, tmp_path)
    results(train_many(runs, tmp_path, overwrite=True))


@pytest.mark.parametrize(("names", "message"), [([], "no runs"), (["a", "a"], "name 'a'"), (["a/b"], "folder")])
def test_runs_have_names_of_their_own(
    names: list[str], message: str, settings: Settings, data: TextData, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train_many([Run(name, settings, data) for name in names], tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_the_outcomes_are_those_in_the_files(settings: Settings, data: TextData, tmp_path: Path) -> None:
    (outcome,) = train_many([Run("one", replace(settings, epochs=1), data)], tmp_path)
    assert Result.from_dict(json.loads((outcome.folder / "metrics.json").read_text())) == outcome.result


def test_a_trunk_cache_is_shared_by_all(
    settings: Settings, data: TextData, other_data: TextData, tmp_path: Path
) -> None:
    upper = replace(settings, method="seq_bn[reduction_factor=4, leave_out=[0]]")
    runs = [
        Run("one", upper, data),
        Run("two", replace(upper, learning_rate=3e-3), data),
        Run("other", replace(upper, seed=1), other_data),
    ]
    cache = TrunkCache(dtype=torch.float32)
    plain, cached = (results(train_many(runs, tmp_path / str(kept), trunk_cache=kept)) for kept in (False, cache))
    for run, one, other in zip(runs, plain, cached, strict=True):
        assert_same(other, one)
        assert_same(other, train_adapter(run.settings, run.data, tmp_path / "alone", trunk_cache=cache).result)
    with pytest.raises(TrunkError, match="bottom of the model"):
        train_many([*runs, Run("low", settings, data)], tmp_path / "low", trunk_cache=True)


def test_batches_that_cannot_go_together_go_one_after_another(
    settings: Settings, data: TextData, tmp_path: Path
) -> None:
    """Prefixes that move positions cannot be side by side on one batch."""
    method = "prefix_tuning[prefix_length=2, bottleneck_size=8, shift_positions=True]"
    moving = replace(settings, method=method, epochs=1)
    runs = [Run("one", moving, data), Run("two", replace(moving, learning_rate=1e-3), data)]
    for run, together in zip(runs, results(train_many(runs, tmp_path)), strict=True):
        assert_same(together, train_adapter(run.settings, data, tmp_path / "alone" / run.name).result)
