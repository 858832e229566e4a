"""What a training of many keeps to go on with, in one folder: ``state.json`` and ``state.safetensors``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from adapterhub.errors import TrainingError
from adapterhub.files import write_folder
from adapterhub.training.many.learner import Learner

_VALUES, _TENSORS = "state.json", "state.safetensors"


def save_state(folder: Path, learners: Iterable[Learner]) -> None:
    """Write how far runs have come: both files are there afterwards, or those of the time before."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for learner in learners:
        own, values[learner.run.name] = learner.state()
        tensors |= {f"{learner.run.adapter}/{path}": tensor.detach().cpu().contiguous() for path, tensor in own.items()}
    write_folder(folder, {_TENSORS: save(tensors), _VALUES: json.dumps(values).encode()})


def runs_in(folder: Path) -> set[str]:
    """The names of the runs that can be gone on with.

    Raises:
        TrainingError: if the file that names them is damaged.
    """
    try:
        return set(json.loads((folder / _VALUES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise TrainingError(_damaged(folder)) from error


def load_state(folder: Path, learners: Iterable[Learner]) -> None:
    """Have runs go on where ``save_state`` was called.

    Raises:
        TrainingError: if the files are damaged, or of other runs.
    """
    try:
        values = json.loads((folder / _VALUES).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
        for learner in learners:
            prefix = f"{learner.run.adapter}/"
            own = {path.removeprefix(prefix): one for path, one in tensors.items() if path.startswith(prefix)}
            learner.restore(own, values[learner.run.name])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(_damaged(folder)) from error


def _damaged(folder: Path) -> str:
    return f"{folder} is damaged and cannot be gone on with: overwrite it to start anew"
