"""What a training says of its progress."""

from pathlib import Path

from adapterhub.training.data import load_data
from adapterhub.training.recipe import train_classifier
from adapterhub.training.settings import Settings


def test_every_step_is_told_with_epoch_and_accuracy(backbone: Path, labelled: Path, tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    settings = Settings(str(backbone), epochs=2, batch_size=16, precision="fp32")
    result = train_classifier(settings, load_data(labelled), tmp_path, progress=lambda *t: told.append(t)).result
    first = f"validation {100 * result.validation_curve[0][1]:.1f} %"
    steps = ["epoch 1/2"] * 4 + [f"epoch 2/2, {first}"] * 3  # the start, and three steps of 16 rows an epoch
    assert told == [(step, 6, what) for step, what in enumerate(steps)]
