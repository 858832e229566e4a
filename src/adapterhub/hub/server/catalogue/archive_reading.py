"""The index of the archived AdapterHub as it was published: YAML files in a ``.tar.gz``."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from adapterhub.errors import DataError

_LARGEST = 1 << 20  # bytes of one file; the largest of the real ones has 40 kB
_MOST = 10_000  # files
KINDS = {"text_task": "task", "text_lang": "language"}


@dataclass
class Archive:
    """What the files say, in their own words.

    Attributes:
        tasks: by kind (``task``, ``language``), then by name.
        datasets: by kind, task and name.
        entries: adapters, by organisation and name of the file.
        architectures: configurations of adapters, by name.
    """

    tasks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    datasets: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    entries: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    architectures: dict[str, dict[str, Any]] = field(default_factory=dict)


def read(path: Path) -> Archive:
    """Read the index from its ``.tar.gz``; nothing is unpacked, and YAML is read as data alone.

    Raises:
        DataError: if it is no such archive, or a file in it is not what it should be.
    """
    made = Archive()
    try:
        with tarfile.open(path, "r:gz") as tar:
            for number, member in enumerate(tar):
                if number >= _MOST or member.size > _LARGEST:
                    raise DataError(f"{path}: {member.name} makes it larger than any index of AdapterHub")
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix in (".yaml", ".yml") and (file := tar.extractfile(member)):
                    _put(made, name, yaml.load(file.read(), yaml.CSafeLoader))
    except (OSError, tarfile.TarError, EOFError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no index of AdapterHub: {error}") from error
    if not (made.entries and made.tasks):
        raise DataError(f"{path} is no index of AdapterHub: it has no files adapters/<org>/*.yaml and tasks/*/*.yaml")
    return made


def dataset(archive: Archive, content: Mapping[str, Any]) -> dict[str, Any]:
    """A data set as a row has it; what is not known is left out."""
    codes = {task["displayname"].lower(): slug for (kind, slug), task in archive.tasks.items() if kind == "language"}
    metric, language = content.get("metric") or {}, (content.get("language") or "").lower()
    if content["task"] in codes.values():
        language = content["task"]
    values = {
        "slug": content["subtask"],
        "title": content.get("displayname") or content["subtask"],
        "description": (content.get("description") or "").strip(),
        "citation": (content.get("citation") or "").strip(),
        "url": content.get("url") or "",
        "source": content.get("hf_datasets_id") or "",
        "language": codes.get(language, language if language in codes.values() else ""),
        "metric": metric.get("name", ""),
        "higher_is_better": metric.get("higher_is_better", True),
    }
    return {key: value for key, value in values.items() if value not in ("", True)}


def _put(archive: Archive, name: PurePosixPath, content: Any) -> None:
    if not isinstance(content, dict):
        raise DataError(f"{name} in the archive holds no fields")
    try:
        match name.parts:
            case ("tasks", kind, _):
                archive.tasks[KINDS[kind], content["task"]] = content
            case ("subtasks", kind, _):
                archive.datasets[KINDS[kind], content["task"], content["subtask"]] = content
            case ("adapters", organisation, _):
                archive.entries[organisation, name.stem] = content
            case ("architectures", _):
                archive.architectures[content["name"]] = content
    except KeyError as error:
        raise DataError(f"{name} in the archive has no {error}") from error
