"""Folders that other libraries write and read: a JSON file beside a file of tensors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.tensors import check_finite, decode
from adapterhub.errors import (
    AdapterHubError,
    CheckpointError,
    CheckpointNotFoundError,
    ConfigError,
    CorruptCheckpointError,
)
from adapterhub.files import leads_out


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """The JSON object in a file of the folder; None where there is no such file, or something else in it.

    Raises:
        CorruptCheckpointError: if the file is not whole.
    """
    try:
        content = json.loads(inside(folder, name).read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise CorruptCheckpointError(f"{folder / name} is not JSON: {error}. Copy it again.") from error
    return content if isinstance(content, dict) else None


def read_tensors(folder: Path, safe: str, pickled: str, allow_pickle: bool) -> dict[str, Tensor]:
    """The tensors in the file ``safe`` of a folder, or in ``pickled`` where that alone is there.

    Raises:
        CheckpointNotFoundError: if neither is there, or only the pickle and ``allow_pickle`` is False.
        CorruptCheckpointError: if the file is truncated or altered, or holds values that are not finite.
    """
    path = inside(folder, safe)
    if path.is_file():
        return decode(path.read_bytes(), str(path))
    if not (path := inside(folder, pickled)).is_file():
        raise CheckpointNotFoundError(f"{folder} holds neither {safe} nor {pickled}")
    if not allow_pickle:
        raise CheckpointNotFoundError(
            f"{folder} holds its weights as a pickle ({pickled}) alone. Pass allow_pickle=True to read the "
            "tensors in it, and nothing else."
        )
    return _unpickled(path)


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder.

    Raises:
        CorruptCheckpointError: if it is a link that leads out of the folder.
    """
    if leads_out(folder, name):
        raise CorruptCheckpointError(f"{folder / name} leads out of the folder; put the file itself there")
    return folder / name


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Say of what another library is said to have written, and cannot have written so, where it is.

    Raises:
        CorruptCheckpointError: in place of what goes wrong with options of other types and tensors of other shapes.
    """
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise error if str(folder) in str(error) else type(error)(f"{folder}: {error}") from error
    except (AdapterHubError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptCheckpointError(
            f"{folder} holds options or tensors that do not go together ({type(error).__name__}: {error}). Copy it "
            "again."
        ) from error


def json_bytes(content: Mapping[str, Any], what: str) -> bytes:
    """The bytes of a JSON file.

    Raises:
        CheckpointError: if the content holds something that JSON cannot.
    """
    try:
        return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} holds something that JSON cannot: {error}") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds for what is no pickle of tensors
        raise CorruptCheckpointError(f"{path} could not be read as tensors: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise CorruptCheckpointError(f"{path} holds something other than named tensors")
    for name, tensor in values.items():
        check_finite(name, tensor, str(path))
    return values
