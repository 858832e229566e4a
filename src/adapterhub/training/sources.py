"""Where labelled text comes from: files and folders by the names of their splits, the Hub, the shipped reviews."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapterhub.errors import DataError
from adapterhub.training.tables import FORMATS, Table, class_names, concatenate, read_table, table_format

SHIPPED = "reviews"
_REVIEWS = Path(__file__).parent / "reviews"
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
# train.csv, books_train.csv.gz, train-00000-of-00002.parquet; the ending is cut off before.
_FILE_NAME = re.compile(rf"(?:(?P<prefix>.+)[_-])?(?P<split>{'|'.join(_SPLITS)})(?P<shard>-\d+-of-\d+)?", re.IGNORECASE)
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """The tables of a data set by split, of which ``train`` is always there."""

    name: str
    description: str
    tables: Mapping[str, Table]
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _File:
    """A table whose name says what split it is: ``{prefix}_{split}{shard}.{ending}``."""

    path: Path
    prefix: str | None
    split: str
    is_shard: bool


def find_source(source: str | Path) -> Source:
    """Read the tables of what ``load_data`` takes.

    Raises:
        DataError: if there is no such thing, or it cannot be read, or it does not say which files are meant.
    """
    if source == SHIPPED:
        tables = _read(_choose(_REVIEWS, _named_files(_REVIEWS), None))
        return Source(SHIPPED, "the reviews shipped with adapterhub", tables, label_names=("negative", "positive"))
    path = Path(source).expanduser()
    if path.is_file():
        ending = table_format(path) or path.suffix
        return Source(slug(path.name.removesuffix(ending)), str(path), {"train": read_table(path)})
    if path.is_dir():
        return _from_folder(path, path, None)
    if path.parent.is_dir() and any(file.prefix == path.name for file in _named_files(path.parent)):
        return _from_folder(path, path.parent, path.name)
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source) or table_format(path):
        raise DataError(f"there is no file or folder {path}. Check the path; relative ones start at {Path.cwd()}.")
    return _from_hub(source)


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def _from_folder(path: Path, folder: Path, prefix: str | None) -> Source:
    files = _named_files(folder)
    prefixes = sorted({file.prefix for file in files if file.prefix and file.split == "train"})
    if prefix is None and prefixes and all(file.prefix for file in files):
        if len(prefixes) > 1:
            raise DataError(
                f"{folder} holds several data sets: {', '.join(prefixes)}. Name one, such as {folder / prefixes[0]}."
            )
        prefix = prefixes[0]
    chosen = _choose(folder, files, prefix)
    taken = {file.path for file in chosen}
    # Files of the other sets in the folder are no news; any other table may have been meant to count.
    others = {file.path for file in files if file.prefix in prefixes and file.prefix != prefix}
    unused = [entry.name for entry in _entries(folder) if table_format(entry) and entry not in taken | others]
    name = folder.resolve().name if path == folder else f"{folder.resolve().name}_{path.name}"
    return Source(slug(name), str(path), _read(chosen), _unused(unused))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} could not be read: {error}") from error


def _named_files(folder: Path) -> list[_File]:
    files = []
    for path in _entries(folder):
        ending = table_format(path)
        match = _FILE_NAME.fullmatch(path.name[: -len(ending)]) if ending and path.is_file() else None
        if match:
            files.append(_File(path, match["prefix"], _SPLITS[match["split"].lower()], bool(match["shard"])))
    return files


def _choose(folder: Path, files: Iterable[_File], prefix: str | None) -> list[_File]:
    chosen = [file for file in files if file.prefix == prefix]
    for split in dict.fromkeys(file.split for file in chosen):
        same = [file for file in chosen if file.split == split]
        if len(same) > 1 and not all(file.is_shard for file in same):
            names = ", ".join(file.path.name for file in same)
            raise DataError(f"{folder} holds several files for the {split} split: {names}. Keep one of them.")
    if not any(file.split == "train" for file in chosen):
        there = ", ".join(entry.name for entry in _entries(folder)[:8]) or "nothing"
        wanted = f"{prefix}_train" if prefix else "train"
        raise DataError(
            f"{folder} holds no training data: looked for {wanted} with one of the endings {', '.join(FORMATS)}, and "
            f"found {there}. Rename the file, or give the file itself as the data."
        )
    return chosen


def _read(files: Sequence[_File]) -> dict[str, Table]:
    splits = dict.fromkeys(file.split for file in files)
    return {split: concatenate([read_table(file.path) for file in files if file.split == split]) for split in splits}


def _from_hub(name: str) -> Source:
    from datasets import load_dataset

    repository, _, configuration = name.partition(":")
    try:
        loaded = load_dataset(_full_name(repository), configuration or None)
    except Exception as error:  # the network, the cache and the readers each have exceptions of their own
        reason = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{name!r} is no file or folder here, and could not be loaded from the Hugging Face Hub "
            f"({type(error).__name__}: {reason}). Check the name (organisation/name); without internet, give "
            f"a folder or a file of labelled text, or {SHIPPED!r}."
        ) from error
    tables = {}
    for split in filter(_SPLITS.get, loaded):
        rows = loaded[split]
        columns = {column: rows[column] for column in rows.column_names}
        tables[_SPLITS[split]] = Table(f"{name} ({split})", columns, class_names(rows.features))
    if "train" not in tables:
        raise DataError(f"{name} has no training split, but {', '.join(loaded)}. Choose another data set.")
    unused = _unused([split for split in loaded if split not in _SPLITS])
    return Source(slug(name.rpartition("/")[2]), f"{name} on the Hugging Face Hub", tables, unused)


def _full_name(repository: str) -> str:
    """Data sets that had no owner once ("rotten_tomatoes") have one now; datasets 5 no longer finds them without."""
    if "/" in repository:
        return repository
    from huggingface_hub import dataset_info

    return str(dataset_info(repository).id)


def _unused(names: Sequence[str]) -> tuple[str, ...]:
    return (f"not used: {', '.join(names)}",) if names else ()
