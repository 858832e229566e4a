"""What a trunk gives for every row of a data set, computed once and kept: in memory, or in a file for later runs."""

import hashlib
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapterhub.engine.calls import TASKS
from adapterhub.engine.trunk import Trunk
from adapterhub.errors import ConfigError, TrainingError
from adapterhub.files import locked, make_folder
from adapterhub.heads.mixin import TARGETS
from adapterhub.training.progress import Progress
from adapterhub.training.state_file import Noted, StateFile

logger = logging.getLogger(__name__)

Collate = Callable[[list[Any]], Mapping[str, Any]]
_NO_INPUTS = {*TARGETS, TASKS, "label", "label_ids"}
_TOKENS, _ROWS = 4096, 32  # of a batch: tokens where rows have them, else rows
_NOTED_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class TrunkCache:
    """How the hidden states of a data set are kept.

    Without a ``folder`` they are in memory, as long as the trainer is. In a folder there is one file for a trunk and a
    data set, which any later run with the same two finds again, in whatever process; one that was broken off is gone
    on with. ``limit`` is in bytes: by default half of the memory that is free, or nine tenths of the disk. ``dtype`` is
    ``torch.bfloat16`` (half the size, and what mixed precision computes with), ``torch.float16`` or ``torch.float32``.
    ``progress`` is told of rows while states are computed.

    Raises:
        ConfigError: for another data type.
    """

    folder: Path | None = None
    limit: int | None = None
    dtype: torch.dtype = torch.bfloat16
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.dtype not in StateFile.TYPES:
            raise ConfigError(f"states are kept as one of {', '.join(map(str, StateFile.TYPES))}, not {self.dtype}")

    @classmethod
    def of(cls, given: "TrunkCache | str | Path | bool | None") -> "TrunkCache | None":
        """The cache that a person asks for: True keeps states in memory, a path in that folder."""
        if given is None or isinstance(given, (bool, TrunkCache)):
            return cls() if given is True else given or None
        return cls(Path(given))

    def keep(
        self, trunk: Trunk, rows: Sequence[Any], collate: Collate, autocast: torch.dtype | None = None
    ) -> "RowStates":
        """The states of all ``rows`` (dictionaries of inputs and labels), computed if they are not kept already.

        ``collate`` makes a batch of rows, as in training; ``autocast`` is the precision to compute with, None for that
        of the model. Rows of one length are computed together, so that nothing is spent on padding.

        Raises:
            TrainingError: if they need more than the ``limit``, or the disk has no room for them.
        """
        index = RowIndex.of(rows, trunk, collate)
        size = index.starts[-1] * trunk.width * self.dtype.itemsize
        told = f"hidden states of {len(rows):,} rows below layer {trunk.depth}: {_megabytes(size)}"
        if self.folder is None:
            self._check(told, size, _free_memory() // 2, "memory; name a folder to keep them in, or a higher limit")
            states = torch.empty(index.starts[-1], trunk.width, dtype=self.dtype)
            self._compute(trunk, rows, collate, index, autocast, told, states)
            return RowStates(states, index)
        key = f"{trunk.fingerprint()} {index.digest} {self.dtype} {autocast}"
        folder = self.folder.expanduser() / hashlib.sha256(key.encode()).hexdigest()[:32]
        file = StateFile(folder / "states.safetensors", (index.starts[-1], trunk.width), self.dtype)
        if not file.is_there():
            make_folder(folder)
            with locked(folder):  # another process may be computing the same
                if not file.is_there():
                    free = shutil.disk_usage(folder).free + file.size_so_far()
                    self._check(told, size, free // 10 * 9, f"the disk of {folder}; free some, or name another folder")
                    with file.writing() as (states, noted):
                        self._compute(trunk, rows, collate, index, autocast, told, states, noted)
        return RowStates(file.read(), index)

    def _check(self, told: str, size: int, room: int, where: str) -> None:
        limit = room if self.limit is None else self.limit
        if size > limit:
            raise TrainingError(f"{told}, and the limit is {_megabytes(limit)} of {where}")
        logger.info("%s", told)

    def _compute(
        self,
        trunk: Trunk,
        rows: Sequence[Any],
        collate: Collate,
        index: "RowIndex",
        autocast: torch.dtype | None,
        told: str,
        states: Tensor,
        noted: Noted | None = None,
    ) -> None:
        """Fill ``states`` batch by batch, from the one on that was ``noted`` last."""
        device = trunk.engine.model.device
        computing = nullcontext() if autocast is None else torch.autocast(device.type, dtype=autocast)
        last, done = time.monotonic(), 0
        for number, batch in enumerate(index.batches()):
            done += len(batch)
            if noted is not None and number < noted.batches:
                continue
            with computing:
                found = _states(trunk, collate, [rows[row] for row in batch])
            for row, values in zip(batch, found, strict=True):
                states[index.starts[row] : index.starts[row + 1]] = values
            if self.progress is not None:
                self.progress(done, len(rows), told)
            if noted is not None and time.monotonic() - last > _NOTED_EVERY:
                noted.note(number + 1)
                last = time.monotonic()


@dataclass(frozen=True)
class RowIndex:
    """What is known of the rows of a data set: where the states of each begin, what they were, how long they are.

    ``starts`` has one number more than there are rows, that of all positions; ``marks`` tell rows that have changed.
    """

    starts: list[int]
    marks: list[int]
    lengths: list[int]
    digest: str

    @classmethod
    def of(cls, rows: Sequence[Any], trunk: Trunk, collate: Collate) -> "RowIndex":
        """The index of ``rows``; where these do not say how long they are, the first one is run."""
        digest, starts, marks, lengths = hashlib.sha256(), [0], [], []
        fixed: int | None = None
        for number in range(len(rows)):
            row = rows[number]
            content = _content(row)
            digest.update(len(content).to_bytes(8, "little") + content)
            marks.append(zlib.crc32(content))
            lengths.append(len(row["input_ids"]) if "input_ids" in row else 0)
            if "input_ids" not in row and fixed is None:
                fixed = len(_states(trunk, collate, [row])[0])
            mask = row.get("attention_mask") if "input_ids" in row else None
            real = lengths[-1] if mask is None else int(np.count_nonzero(np.asarray(mask)))
            starts.append(starts[-1] + (real if fixed is None else fixed))
        return cls(starts, marks, lengths, digest.hexdigest())

    def batches(self) -> Iterator[list[int]]:
        """Numbers of rows that are computed together: of one length, the longest first."""
        order = sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])
        for length, group in groupby(order, key=lambda row: self.lengths[row]):
            rows = list(group)
            size = max(1, _TOKENS // length) if length else _ROWS
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def check(self, number: int, row: Any) -> None:
        """Pass a row that is what it was when its states were computed.

        Raises:
            TrainingError: for any other.
        """
        if zlib.crc32(_content(row)) != self.marks[number]:
            raise TrainingError(
                f"row {number} is not what it was when its hidden states were computed: data that change from one time "
                "to the next (augmentation) cannot be trained on with a trunk cache"
            )


@dataclass(frozen=True)
class RowStates:
    """The states of the rows of a data set: ``[number]`` gives those of one, ``[seq, width]``, without padding."""

    states: Tensor
    index: RowIndex

    def __getitem__(self, number: int) -> Tensor:
        return self.states[self.index.starts[number] : self.index.starts[number + 1]]


def _states(trunk: Trunk, collate: Collate, rows: list[Any]) -> list[Tensor]:
    """The states of each of some rows, those of padding left out."""
    device = trunk.engine.model.device
    batch = {name: value for name, value in collate(rows).items() if name not in _NO_INPUTS}
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    states, mask = trunk.states(**batch), batch.get("attention_mask")
    if mask is None or mask.shape != states.shape[:2]:
        return list(states)
    return [one[real] for one, real in zip(states, mask.bool(), strict=True)]


def _content(row: Mapping[str, Any]) -> bytes:
    """All that a model reads of a row."""
    values = ((name, np.asarray(row[name])) for name in sorted(row) if name not in _NO_INPUTS)
    return b"".join(
        name.encode() + (repr(row[name]).encode() if value.dtype.hasobject else value.tobytes())
        for name, value in values
    )


def _free_memory() -> int:
    """Bytes of memory that are free; where the system does not say, no end of them."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 1 << 62


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
