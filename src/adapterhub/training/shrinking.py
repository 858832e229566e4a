"""A trained classifier made smaller: in fewer bits, narrower, or as small as its accuracy allows."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub.checkpoints import ADAPTER_MANIFEST, Part, Storage, read, write
from adapterhub.errors import ConfigError, DataError
from adapterhub.methods import load_config
from adapterhub.methods.bottleneck import BottleneckConfig
from adapterhub.training.classifier import load_classifier
from adapterhub.training.data import TextData, load_data
from adapterhub.training.evaluation import evaluate_classifier
from adapterhub.training.progress import Progress

_LOOKED_AT = 512  # rows of the training data that units are ranked by
_BATCH = 32
_WHOLE = ("adapter", "head", "format", "format_version")  # what a manifest says of its parts and of itself


@dataclass(frozen=True)
class Version:
    """An adapter with its head as it is stored: with the share ``keep`` of its hidden units, in ``dtype``.

    ``bytes`` are those of manifest and weights; ``accuracy`` is that on validation, None where it was not measured.
    """

    dtype: Storage | None
    keep: float
    bytes: int
    parameters: int
    accuracy: float | None = None


@dataclass(frozen=True)
class Shrunk:
    """What became of an adapter; ``tried`` are all versions that were measured."""

    before: Version
    after: Version
    tried: tuple[Version, ...] = ()


def store(adapter: Path, output: Path, dtype: Storage) -> Version:
    """Write an adapter and its head again with values of ``dtype``; no base model is needed.

    Raises:
        CheckpointError: if it cannot be read or written.
        ConfigError: for an unknown ``dtype``.
    """
    manifest = read(adapter, ADAPTER_MANIFEST)
    kinds = [kind for kind in ("adapter", "head") if manifest.has(kind)]
    parts = {kind: Part(manifest.config(kind), manifest.tensors(kind)) for kind in kinds}
    about = {key: value for key, value in manifest.content.items() if key not in _WHOLE}
    write(output, ADAPTER_MANIFEST, about, parts, dtype)
    return version(output, 1.0)


def version(folder: Path, keep: float, accuracy: float | None = None) -> Version:
    """What is stored in a folder.

    Raises:
        CheckpointError: if it cannot be read.
    """
    content = read(folder, ADAPTER_MANIFEST).content
    weights = [content[kind]["weights"] for kind in ("adapter", "head") if kind in content]
    files = {ADAPTER_MANIFEST, *(one["file"] for one in weights)}
    size = sum((folder / file).stat().st_size for file in files)
    return Version(weights[0].get("dtype"), keep, size, weights[0]["parameters"], accuracy)


class Shrinking:
    """Versions of one trained adapter, measured on labelled text.

    Args:
        adapter: the folder of a saved classifier.
        source: labelled text, as for ``load_data``; hidden units are ranked on its training split, accuracy is measured
            on its validation split.
        model: another base model than the one that the adapter names.
        data_options: of ``load_data``.
        progress: told how far each measurement is.

    Raises:
        DataError, CheckpointError, BackboneError, LabelMismatchError: as ``evaluate_classifier``.
    """

    def __init__(
        self,
        adapter: Path,
        source: str,
        model: str | None = None,
        *,
        data_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.adapter, self.source, self.model = adapter, source, model
        self._data_options, self._progress = data_options, progress
        self._data = load_data(source, **(data_options or {}))
        config = load_config(read(adapter, ADAPTER_MANIFEST).config("adapter"))
        self._has_units = isinstance(config, BottleneckConfig) and not config.phm_layer
        self.before = version(adapter, 1.0, self.accuracy(adapter))

    def accuracy(self, folder: Path, split: str = "validation") -> float:
        """That of a version."""
        found = evaluate_classifier(
            folder, self.source, split, self.model, data_options=self._data_options, progress=self._progress
        )
        return float(found["accuracy"])

    def make(self, output: Path, keep: float, dtype: Storage) -> Version:
        """Write the adapter with some of its hidden units, in ``dtype``, and measure it.

        Raises:
            ConfigError: if ``keep`` is below 1 and the adapter has no bottleneck, or out of range.
        """
        self._write(output, keep, dtype)
        return version(output, keep, self.accuracy(output))

    def smallest(self, output: Path, max_drop: float) -> Shrunk:
        """Write the smallest version whose accuracy on validation is at most ``max_drop`` (of 1) below the whole one's.

        In eight bits and in four, the units are halved until too much is lost, and three quarters of that are tried
        last. Where no version is good enough, nothing is written.

        Raises:
            ConfigError: if ``max_drop`` is below 0.
            DataError: if every version loses more.
        """
        if not max_drop >= 0:
            raise ConfigError(f"max_drop is a difference of accuracies from 0 to 1, not {max_drop}")
        assert self.before.accuracy is not None
        least = self.before.accuracy - max_drop - 1e-9
        tried: list[Version] = []
        for dtype in ("int8", "int4"):
            tried += self._halving(dtype, least)
        good = [one for one in tried if one.accuracy is not None and one.accuracy >= least]
        if not good:
            raise DataError(
                f"every smaller version of {self.adapter} loses more than {100 * max_drop:g} points on validation"
            )
        best = min(good, key=lambda one: one.bytes)
        assert best.dtype is not None
        self._write(output, best.keep, best.dtype)
        return Shrunk(self.before, best, tuple(tried))

    def _halving(self, dtype: Storage, least: float) -> Iterator[Version]:
        keep, last = 1.0, None
        while True:
            made = self._measured(keep, dtype)
            if last is not None and made.parameters >= last.parameters:  # a layer keeps one unit
                return
            yield made
            if made.accuracy is None or made.accuracy < least:
                break
            if not self._has_units:
                return
            last, keep = made, keep / 2
        if last is not None:
            yield self._measured(0.75 * last.keep, dtype)

    def _measured(self, keep: float, dtype: Storage) -> Version:
        with tempfile.TemporaryDirectory() as folder:
            return self.make(Path(folder), keep, dtype)

    def _write(self, output: Path, keep: float, dtype: Storage) -> None:
        if keep == 1:
            store(self.adapter, output, dtype)
        else:
            self._narrow(output, keep, dtype)

    def _narrow(self, output: Path, keep: float, dtype: Storage) -> None:
        loaded, tokenizer = load_classifier(self.adapter, self.model, pairs=self._data.pairs)
        (name,) = loaded.adapters
        batches = (
            tokenizer(*columns, padding=True, truncation=True, return_tensors="pt") for columns in _texts(self._data)
        )
        loaded.prune_adapter(name, keep, batches)
        meta = read(self.adapter, ADAPTER_MANIFEST).content.get("meta")
        loaded.save_adapter(output, name, meta_dict=meta, tokenizer=tokenizer, dtype=dtype)


def _texts(data: TextData) -> Iterator[list[list[str]]]:
    """The first rows of the training data in batches: the column of texts, and that of second texts."""
    rows = data.train.select(range(min(_LOOKED_AT, len(data.train))))
    names = [name for name in ("text", "text_pair") if name in rows.column_names]
    for batch in rows.iter(batch_size=_BATCH):
        yield [batch[name] for name in names]
