"""What a training run has to keep of a model: all that trains, and nothing of the frozen base."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterhub.checkpoints import ADAPTER_MANIFEST, load_into, read
from adapterhub.errors import CheckpointNotFoundError
from adapterhub.model import AdapterMixin

_OTHERS = "trained.safetensors"  # what trains and is part of no adapter or head that was saved with one


def save_trained(model: AdapterMixin, folder: Path) -> None:
    """Write the adapters that train, each with its head in a folder of its name, and whatever else trains.

    Raises:
        CheckpointError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, fusion in model.fusions.items():
        if any(parameter.requires_grad for parameter in fusion.parameters()):  # the buffers too: they cool in training
            trained |= {f"fusions.{name}.{path}": tensor for path, tensor in fusion.state_dict().items()}
    for name, adapter in model.adapters.items():
        if any(parameter.requires_grad for parameter in adapter.parameters()):
            model.save_adapter(folder / name, name)
            head = model.head_part(name)
            covered = {f"adapters.{name}.{path}" for path in adapter.state_dict()}
            covered |= {_head_path(model, name, path) for path in (head[1].tensors if head else ())}
            trained = {path: parameter for path, parameter in trained.items() if path not in covered}
    if trained:
        save_file(
            {path: parameter.detach().cpu().contiguous() for path, parameter in trained.items()}, folder / _OTHERS
        )


def load_trained(model: AdapterMixin, folder: Path) -> None:
    """Read back what ``save_trained`` wrote, into the parameters that the model has: an optimiser keeps hold of them.

    Raises:
        CheckpointNotFoundError: if there is nothing of the kind in ``folder``.
        CorruptCheckpointError: if a file is truncated or altered.
        TensorMismatchError: if a tensor does not fit.
    """
    saved = [path.parent for path in sorted(folder.glob(f"*/{ADAPTER_MANIFEST}"))]
    others = folder / _OTHERS
    if not saved and not others.exists():
        raise CheckpointNotFoundError(f"{folder} holds no adapter that was trained")
    for adapter_folder in saved:
        manifest = read(adapter_folder, ADAPTER_MANIFEST)
        name = str(manifest.content["name"])
        load_into(model.engine.get(name), manifest.tensors("adapter"), f"adapter {name!r}")
        if manifest.has("head"):
            for path, tensor in manifest.tensors("head").items():
                _copy(model, _head_path(model, name, path), tensor)
    if others.exists():
        for path, tensor in load_file(others).items():
            _copy(model, path, tensor)


def _head_path(model: AdapterMixin, name: str, path: str) -> str:
    """Where in the model a tensor of a saved head lives: in a flexible head, or in the class's own."""
    return f"heads.{name}.{path}" if name in getattr(model, "heads", ()) else path.removeprefix("shell.")


def _copy(model: AdapterMixin, path: str, tensor: Tensor) -> None:
    own = model.state_dict(keep_vars=True)[path]
    own.data.copy_(tensor)
