"""The whole job once, on a tiny model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adapterhub.errors import DataError, TrainingError
from adapterhub.training import compare, quickstart
from adapterhub.training.classifier import load_classifier, predict
from adapterhub.training.data import load_data
from adapterhub.training.recipe import train_classifier
from adapterhub.training.settings import Settings

METHOD = "seq_bn[reduction_factor=6]"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """Settings of all runs, which are done in this process, to save the time of starting others."""
    done: list[Settings] = []

    def do(runner: Any, settings: Settings, path: Path, what: str) -> None:
        done.append(settings)
        data = load_data(runner.data, **runner.data_options)
        result = train_classifier(settings, data, tmp_path / "runs" / str(len(done))).result
        compare.write_json(path, asdict(result))

    monkeypatch.setattr(compare._Runner, "_do", do)
    return done


def test_from_text_to_predictions(runs: list[Settings], backbone: Path, labelled: Path, tmp_path: Path) -> None:
    said: list[str] = []
    told: list[tuple[float, float, str]] = []
    done = quickstart.quickstart(
        str(backbone), str(labelled), tmp_path / "out", epochs=1, seed=3, seeds=2, say=said.append,
        progress=lambda *what: told.append(what),
    )  # fmt: skip
    methods = [METHOD, "full", "head"]
    assert [method.method for method in done.comparison.methods] == methods and done.comparison.seeds == (3, 4)
    assert [(run.method, run.seed) for run in runs] == [(m, s) for m in methods for s in (3, 3, 3, 4)]
    assert {run.epochs for run in runs} == {1}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["test_accuracy"] == pytest.approx(
        done.comparison.methods[0].runs[0].test_accuracy
    ), "the adapter that is kept is the first run with the rate that was chosen"
    texts = [answer["text"] for answer in done.examples]
    assert predict(*load_classifier(done.adapter), texts) == done.examples
    assert set(texts) <= set(load_data(labelled).test["text"]) and len(texts) == 6
    assert "report" in done.report.name and texts[0] in done.report.read_text()
    assert said[0] == "data     sentences: 48 train, 16 validation, 16 test rows; labels LABEL_0, LABEL_1"
    assert said[1] == "         validation: 16 of 16 texts are in the training data too"
    assert any("3 methods, each with 3 learning rates, then 2 seeds of the best: 12 runs" in line for line in said)
    assert told[-1][:2] == (13, 13) and {total for _, total, _ in told} == {13}


def test_the_shipped_data_take_fewer_rates_and_more_epochs(
    runs: list[Settings], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "estimate_seconds", lambda *given: 200.0)
    said: list[str] = []

    class EnoughError(Exception):
        pass

    def stop(done: float, total: float, what: str) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        quickstart.quickstart(str(backbone), output_dir=tmp_path / "out", say=said.append, progress=stop)
    assert (
        said[-1]
        == "plan     3 methods, each with 2 learning rates: 6 runs, and one of the adapter to keep; about 3 min"
    )


def test_an_adapter_that_comes_back_different_is_an_error(
    runs: list[Settings], backbone: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path) -> Any:
        model, tokenizer = load_classifier(folder)
        *_, last = model.heads.parameters()
        last.data[0] += 1.0
        return model, tokenizer

    monkeypatch.setattr(quickstart, "load_classifier", load)
    monkeypatch.setattr(quickstart, "default_rates", lambda method: (1e-2,))
    with pytest.raises(TrainingError, match="predicts other scores"):
        quickstart.quickstart(str(backbone), str(labelled), tmp_path / "out", epochs=1, seeds=1)
    assert not (tmp_path / "out" / "report.html").exists()


def test_data_that_are_none(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        quickstart.quickstart(str(backbone), str(tmp_path / "nothing"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "about 10 s"), (44, "about 40 s"), (89, "about 90 s"), (200, "about 3 min"), (3570, "about 1 h"),
     (4800, "about 1 h 20 min"), (7290, "about 2 h")],
)  # fmt: skip
def test_a_length_of_time_for_people(seconds: float, words: str) -> None:
    assert quickstart.duration(seconds) == words
