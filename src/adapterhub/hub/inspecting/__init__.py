"""Stands in until the room itself is there."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from adapterhub.fingerprint import Fingerprint


@dataclass(frozen=True)
class HeadInfo:
    type: str = ""


@dataclass(frozen=True)
class AdapterInfo:
    kind: str = "adapter"
    format: str = "adapterhub"
    method: str = ""
    config_hash: str = ""
    base: str | None = None
    base_revision: str | None = None
    fingerprint: Fingerprint | None = None
    model_type: str | None = None
    head: HeadInfo | None = None
    parameters: int = 0
    size: int = 0
    hidden_size: int | None = None
    layers: int | None = None
    task: str | None = None
    dataset: str | None = None
    languages: tuple[str, ...] = ()
    needs: tuple[tuple[int | None, str, int | None, int | None], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"fingerprint": None if self.fingerprint is None else self.fingerprint.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AdapterInfo":
        known = dict(values)
        if known["fingerprint"] is not None:
            known["fingerprint"] = Fingerprint.from_dict(known["fingerprint"], "info")
        known["head"] = None if known["head"] is None else HeadInfo(**known["head"])
        return cls(**known)


def check_paths(paths: Iterable[str]) -> None:
    pass


def check_file(path: str, size: int, opener: Callable[[], BinaryIO]) -> None:
    pass


def inspect(files: Mapping[str, Callable[[], BinaryIO]]) -> AdapterInfo | None:
    if "adapter_config.json" not in files:
        return None
    with files["adapter_config.json"]() as stream:
        content = json.load(stream)
    base = (
        content.get("base_model_name_or_path")
        or content.get("model_name")
        or (content.get("base_model") or {}).get("name")
    )
    return AdapterInfo(method=str(content.get("peft_type", "bottleneck")).lower(), base=base)
