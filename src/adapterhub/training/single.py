"""One adapter trained in a folder of its own: begun, gone on with, and finished.

While it trains, the folder holds ``training.json`` (what is trained, on what) and ``checkpoints``. Afterwards it holds
``adapter`` and ``metrics.json`` in their place.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from adapterhub.errors import TrainingError
from adapterhub.methods import load_config
from adapterhub.training.classifier import save_classifier
from adapterhub.training.compare import write_json
from adapterhub.training.data import TextData
from adapterhub.training.progress import Progress
from adapterhub.training.recipe import Trained, train_classifier
from adapterhub.training.settings import Settings
from adapterhub.training.trunk_cache import TrunkCache

ADAPTER, METRICS = "adapter", "metrics.json"
_BEGUN, _CHECKPOINTS = "training.json", "checkpoints"


def train_adapter(
    settings: Settings,
    data: TextData,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    trunk_cache: TrunkCache | None = None,
) -> Trained:
    """Train an adapter and its head, and leave them in ``folder/adapter``, with ``folder/metrics.json``.

    A finished adapter that is there is replaced at the end; an unfinished training is lost only with ``overwrite``.
    With a ``trunk_cache`` what layers below the lowest adapter give is computed once.

    Raises:
        ConfigError: if ``settings.method`` is no configuration of an adapter.
        TrainingError: if there is nothing to resume, it was begun otherwise, or an unfinished training is in the way.
        TrainingInterrupted: if it was stopped by a signal, with a checkpoint kept.
        TrunkError: with a trunk cache, if the adapter acts in the lowest layer, or the model cannot run above it.
    """
    load_config(settings.method)
    checkpoints = folder / _CHECKPOINTS
    unfinished = any(checkpoints.glob("checkpoint-*"))
    if resume:
        _check_same(folder, settings, data.fingerprint)
    elif unfinished and not overwrite:
        raise TrainingError(
            f"{folder} holds an unfinished training: add --resume to go on with it, or --overwrite to start anew"
        )
    else:
        shutil.rmtree(checkpoints, ignore_errors=True)
    write_json(folder / _BEGUN, {"settings": asdict(settings), "data": data.fingerprint})
    trained = train_classifier(
        settings,
        data,
        folder,
        resume=resume,
        keep_optimizer=True,
        progress=progress,
        name=adapter_name(data),
        trunk_cache=trunk_cache,
    )
    save_classifier(trained, folder / ADAPTER)
    write_json(folder / METRICS, asdict(trained.result))
    shutil.rmtree(checkpoints, ignore_errors=True)
    (folder / _BEGUN).unlink(missing_ok=True)
    return trained


def adapter_name(data: TextData) -> str:
    """What an adapter is called that is trained on some data: dots are for the paths of parameters."""
    return data.name.replace(".", "-")


def _check_same(folder: Path, settings: Settings, data: str) -> None:
    """Whether what was begun in ``folder`` is what is wanted now: a mixture of the two would be neither."""
    path = folder / _BEGUN
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        then, now = begun["settings"], asdict(settings)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{folder} holds no training to resume; leave out --resume to start anew") from error
    changes = [f"{name} {then.get(name)!r} then, {now[name]!r} now" for name in now if then.get(name) != now[name]]
    changes += ["other data"] if begun.get("data") != data else []
    if changes:
        raise TrainingError(
            f"the training in {folder} was begun otherwise: {'; '.join(changes)}. Resume it as it was begun, or start "
            "anew by --overwrite."
        )
