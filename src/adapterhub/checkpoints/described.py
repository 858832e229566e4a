"""What a folder says of itself before anything in it is loaded: its format, its base model, the class around that."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub.checkpoints.foreign import read_json
from adapterhub.checkpoints.native import ADAPTER_MANIFEST
from adapterhub.composition import SETUP
from adapterhub.errors import CheckpointNotFoundError

_TASKS = {  # of PEFT
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True)
class Description:
    """What a folder of an adapter, or of a whole setup, says.

    Attributes:
        folder: that of the adapter itself; of a setup, its own.
        format: ``"adapterhub"``, ``"adapters"`` or ``"peft"``.
        base: the base model by name or path, or None.
        model_class: the class that it was made from, or None.
        id2label: of a head that is part of that class, or None.
        is_setup: whether it is a whole setup.
    """

    folder: Path
    format: str
    base: str | None
    model_class: str | None
    id2label: Mapping[int, str] | None = None
    is_setup: bool = False


def adapter_folder(folder: Path) -> Path:
    """The folder that holds an adapter: ``folder``, or the one in it that does, as PEFT makes them for names.

    Raises:
        CheckpointNotFoundError: if there are several.
    """
    if (folder / ADAPTER_MANIFEST).exists() or not folder.is_dir():
        return folder
    found = sorted(path for path in folder.iterdir() if (path / ADAPTER_MANIFEST).is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointNotFoundError(f"{folder} holds several adapters: {names}. Give the folder of one of them.")
    return found[0] if found else folder


def describe(folder: Path) -> Description:
    """What a folder says.

    Raises:
        CheckpointNotFoundError: if it holds no adapter.
        CorruptCheckpointError: if what it says is not whole.
    """
    if not folder.is_dir():
        raise CheckpointNotFoundError(f"{folder} is no folder. Give that of a saved adapter.")
    if (setup := folder / SETUP).is_file():
        first = next((path for path in sorted(folder.iterdir()) if (path / ADAPTER_MANIFEST).is_file()), None)
        if first is None:
            raise CheckpointNotFoundError(f"{setup} names adapters, and there are none beside it")
        of = describe(first)
        return Description(folder, of.format, of.base, of.model_class, of.id2label, True)
    folder = adapter_folder(folder)
    content = read_json(folder, ADAPTER_MANIFEST)
    if content is None:
        raise CheckpointNotFoundError(f"{folder} holds no adapter ({ADAPTER_MANIFEST})")
    if "peft_type" in content:
        own = content.get("auto_mapping") or {}
        made_from = own.get("base_model_class") or _TASKS.get(content.get("task_type") or "")
        return Description(folder, "peft", content.get("base_model_name_or_path"), made_from)
    if content.get("format") is not None:
        base, meta = content.get("base_model") or {}, content.get("meta") or {}
        name = meta.get("backbone") or base.get("name")
        return Description(folder, "adapterhub", name, content.get("model_class"), _labels(content))
    return Description(folder, "adapters", content.get("model_name") or None, content.get("model_class"))


def _labels(content: Mapping[str, Any]) -> dict[int, str] | None:
    config = (content.get("head") or {}).get("config") or {}
    labels = (config.get("settings") or {}).get("id2label")
    return None if labels is None else {int(index): str(label) for index, label in labels.items()}
