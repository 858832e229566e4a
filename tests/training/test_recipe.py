"""The recipe that all methods share: what is trained, what is counted, and what counts as the best."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub import AutoAdapterModel
from adapterhub.errors import BackboneError, ConfigError, TrainingError
from adapterhub.training.data import load_data
from adapterhub.training.outcome import is_collapsed
from adapterhub.training.preparing import build_model
from adapterhub.training.recipe import train_classifier
from adapterhub.training.settings import Result, Settings

ADAPTER = "seq_bn[reduction_factor=4]"


@pytest.fixture(scope="module")
def settings(backbone: Path) -> Settings:
    return Settings(str(backbone), ADAPTER, 3e-2, epochs=3, batch_size=8, precision="fp32")


@pytest.mark.parametrize("method", [ADAPTER, "full", "head"])
def test_a_method_trains_its_parameters_and_no_others(
    method: str, settings: Settings, labelled: Path, tmp_path: Path
) -> None:
    chosen = replace(settings, method=method, epochs=1)
    before = build_model(chosen, load_data(labelled), settings.model, "task").state_dict()
    trained = train_classifier(chosen, load_data(labelled), tmp_path)
    moved = set()
    for name, values in trained.model.state_dict().items():
        if not name.startswith("heads.") and name in before and not torch.equal(values, before[name]):
            moved.add("adapter" if ".adapters." in name or name.startswith("adapters.") else "base")
    assert moved == {ADAPTER: {"adapter"}, "full": {"base"}, "head": set()}[method]


def test_parameters_files_and_accuracies_are_counted(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    data = load_data(labelled)
    trained = train_classifier(settings, data, tmp_path)
    result = trained.result
    width, layers = trained.model.config.hidden_size, trained.model.config.num_hidden_layers
    bottleneck = width // 4
    assert result.trained == layers * (2 * width * bottleneck + bottleneck + width)
    assert result.head == width * width + width + 2 * width + 2  # a dense layer, and that to the labels
    assert result.base == sum(p.numel() for p in trained.model.base_parameters())
    assert result.file_size < 4 * (result.trained + result.head) + 20_000
    assert result.precision == "fp32" and result.seconds > 0 and result.peak_memory > 1e8
    inputs = (trained.tokenizer(text, return_tensors="pt") for text in data.test["text"])
    with torch.no_grad():
        answers = [trained.model(**each).logits.argmax().item() for each in inputs]
    right = [answer == label for answer, label in zip(answers, data.test["label"], strict=True)]
    assert result.test_accuracy == pytest.approx(sum(right) / len(right))


def test_the_best_epoch_on_validation_is_kept(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    result = train_classifier(replace(settings, epochs=4), load_data(labelled), tmp_path).result
    assert [epoch for epoch, _ in result.validation_curve] == [1.0, 2.0, 3.0, 4.0]
    assert result.validation_accuracy == max(accuracy for _, accuracy in result.validation_curve)


def test_it_ends_when_validation_gets_no_better(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    still = replace(settings, learning_rate=0.0, epochs=6, patience=2)
    assert len(train_classifier(still, load_data(labelled), tmp_path).result.validation_curve) == 3


def test_the_seed_decides(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    data = load_data(labelled)
    one, same, other = (
        train_classifier(replace(settings, epochs=1, seed=seed), data, tmp_path / str(place)).result.losses
        for place, seed in enumerate((1, 1, 2))
    )
    assert one == same != other


def test_a_model_trained_in_bf16_is_given_back_as_it_came(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    trained = train_classifier(replace(settings, epochs=1, precision="bf16"), load_data(labelled), tmp_path)
    assert trained.result.precision == "bf16"
    assert {"forward", "_original_forward"}.isdisjoint(vars(trained.model))
    inputs = trained.tokenizer("the film is good", return_tensors="pt")
    trained.model.save_adapter(tmp_path / "a", trained.name)
    fresh = AutoAdapterModel.from_pretrained(settings.model)
    fresh.load_adapter(tmp_path / "a", set_active=True)
    with torch.no_grad():
        assert torch.equal(trained.model(**inputs).logits, fresh.eval()(**inputs).logits)


@pytest.mark.parametrize(
    ("losses", "collapsed"),
    [([0.69] * 5, True), ([0.9] * 9, True), ([0.3] * 5, False), ([0.7] * 9 + [0.3] * 5, False), ([math.nan], True)],
)
def test_a_loss_at_chance_is_a_collapse(losses: list[float], collapsed: bool, labelled: Path) -> None:
    curve = tuple((float(epoch), loss) for epoch, loss in enumerate(losses))
    assert is_collapsed(curve, load_data(labelled)) is collapsed  # two equal classes: ln 2 = 0.693


def test_a_collapse_is_named(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    still = replace(settings, learning_rate=0.0, epochs=1)
    assert train_classifier(still, load_data(labelled), tmp_path).result.collapsed


def test_there_has_to_be_something_to_resume(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    torn = tmp_path / "checkpoints" / "checkpoint-6"
    torn.mkdir(parents=True)
    (torn / "adapter.safetensors").write_bytes(b"cut")  # the file that is written last is not there
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        train_classifier(settings, load_data(labelled), tmp_path, resume=True)


def test_a_model_that_is_none_is_an_error(settings: Settings, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="nowhere"):
        train_classifier(replace(settings, model=str(tmp_path / "nowhere")), load_data(labelled), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"max_length": 3}, {"patience": 0}, {"seed": -1}, {"learning_rate": -1e-3},
     {"learning_rate": math.nan}, {"warmup": 1.5}, {"precision": "fp16"}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Settings(**wrong)


def test_a_result_is_read_back(settings: Settings) -> None:
    result = Result(settings, 0.5, 0.6, 0.55, ((0.5, 0.7),), ((1.0, 0.5),), False, 1, 2, 3, 4, 5.0, 6, "fp32")
    assert Result.from_dict(json.loads(json.dumps(asdict(result)))) == result
