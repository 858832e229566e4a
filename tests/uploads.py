"""Files as they are uploaded: folders as openers, and safetensors files made by hand, right and wrong."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Files = dict[str, Callable[[], io.BytesIO]]


def opener(data: bytes) -> Callable[[], io.BytesIO]:
    """What opens a file of these bytes."""
    return lambda: io.BytesIO(data)


def files(folder: Path) -> Files:
    """The files of a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): opener(path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def changed(given: Files, name: str, change: Callable[[dict[str, Any]], object]) -> Files:
    """``given`` with another JSON file, which ``change`` changes in place."""
    content = json.loads(given[name]().read())
    change(content)
    return given | {name: opener(json.dumps(content).encode())}


def header(entries: Mapping[str, Any] | str | bytes, data: bytes = b"") -> bytes:
    """A file that begins with this header, as it stands if it is text."""
    if isinstance(entries, Mapping):
        entries = json.dumps(entries)
    text = entries.encode() if isinstance(entries, str) else entries
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    """What a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
