"""The name of a base model in saved adapters, which on the machine of its author may have been a path."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterhub.errors import HubIdError
from adapterhub.hub.bases import is_public

_MANIFESTS = ("adapter_config.json", "head_config.json", "fusion_config.json", "adapter_fusion_config.json")
_KEYS = ("base_model_name_or_path", "model_name")  # of PEFT and of adapters; the native format has two of its own


@contextmanager
def based_on(folder: Path, base: str | None) -> Iterator[Path]:
    """A copy of a folder in which all adapters say that they are for ``base``; without one, the folder itself.

    Raises:
        HubIdError: if ``base`` is no name of a model on a hub.
    """
    if base is None:
        yield folder
        return
    if not is_public(base):
        raise HubIdError(f"{base!r} is no name of a base model: write owner/name, as the model is called on a hub")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copytree(folder, Path(temporary) / folder.resolve().name))
        for path in copy.rglob("*.json"):
            if path.name in _MANIFESTS:
                content = json.loads(path.read_text(encoding="utf-8"))
                path.write_text(json.dumps(_renamed(content, base), indent=2) + "\n", encoding="utf-8")
        yield copy


def _renamed(content: dict[str, Any], base: str) -> dict[str, Any]:
    made = content | {key: base for key in _KEYS if key in content}
    if "base_model" in content:
        made["base_model"] = content["base_model"] | {"name": base}
    if "backbone" in (content.get("meta") or {}):
        made["meta"] = content["meta"] | {"backbone": base}
    return made
