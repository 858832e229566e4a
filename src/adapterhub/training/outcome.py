"""What is measured of a finished training: scores, whether anything was learnt, and the size of its files."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.data import TextData
from adapterhub.training.settings import FULL, HEAD, Settings

_COLLAPSED = 0.97  # of the loss of guessing by class frequencies


def scores(prediction: Any) -> dict[str, float]:
    """Accuracy and macro F1 of what a ``Trainer`` predicted: logits ``[rows, labels]`` against ``[rows]``."""
    from sklearn.metrics import accuracy_score, f1_score

    guesses = np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "macro_f1": float(f1_score(prediction.label_ids, guesses, average="macro")),
    }


def is_collapsed(losses: tuple[tuple[float, float], ...], data: TextData) -> bool:
    """Whether the loss ended where guessing by class frequencies would: nothing was learnt."""
    shares = np.bincount(data.train["label"]) / len(data.train)
    chance = -sum(share * math.log(share) for share in shares if share)
    last = [loss for _, loss in losses[-5:]]
    return bool(last) and not float(np.mean(last)) < _COLLAPSED * chance


def file_size(model: FlexibleAdapterMixin, settings: Settings, name: str) -> int:
    """Bytes of the files that have to be kept for the task: adapter and head, head, or the whole model."""
    with tempfile.TemporaryDirectory() as folder:
        if settings.method == FULL:
            model.save_pretrained(folder)
        elif settings.method == HEAD:
            model.save_head(folder, name)
        else:
            model.save_adapter(folder, name)
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
