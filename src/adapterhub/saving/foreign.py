"""Writing what other libraries load: checkpoints of PEFT, and of ``adapters``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapterhub.checkpoints import Content, Part, adapters, whole_state
from adapterhub.checkpoints.peft import PeftLayout, peft_files
from adapterhub.composition import Composition, Rows
from adapterhub.engine.named import ADDED
from adapterhub.errors import CheckpointError, ConfigError, HeadError
from adapterhub.files import write_folder
from adapterhub.heads import FlexibleHeadsMixin
from adapterhub.heads.base import text_config, word_embeddings
from adapterhub.saving.native import check_unmerged

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

_TASKS = {  # what PEFT calls the transformers classes that it knows by their task
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
}
FORMATS = ("adapterhub", "adapters", "peft")


def is_foreign(form: str) -> bool:
    """Whether a format of ``save_adapter`` is that of another library.

    Raises:
        ConfigError: for an unknown one.
    """
    if form not in FORMATS:
        raise ConfigError(f"format is one of {', '.join(FORMATS)}, not {form!r}")
    return form != FORMATS[0]


def save_adapter(
    model: "AdapterMixin", folder: Path, name: str, with_head: bool, meta: Mapping[str, Any] | None, form: str
) -> None:
    """Write an adapter, and the head that goes with it, as another library does."""
    check_unmerged(model)
    adapter = model.engine.get(name)
    content = Content(adapter.config, whole_state(adapter))
    if form == "peft":
        _save_peft(model, folder, content, name if with_head else None)
        return
    files = _head_files(model, name) if with_head else {}
    files |= adapters.adapter_files(name, content, layout(model), _about(model) | dict(meta or {}))
    write_folder(folder, files)


def check_has_place(form: str, **given: Any) -> None:
    """Pass what a format can keep beside an adapter: nothing of what is ``given``.

    Raises:
        CheckpointError: naming what it has no place for.
    """
    if names := [name for name, value in given.items() if value]:
        raise CheckpointError(f"the format {form} has no place for {' and '.join(names)}: leave it out")


def _save_peft(model: "AdapterMixin", folder: Path, content: Content, head: str | None) -> None:
    """Write an adapter as PEFT does, and the head of the transformers class as modules that were trained beside it."""
    found = None if head is None else model.head_part(head)
    if found is not None and found[1].config["head_type"] != "static":
        raise CheckpointError(
            "PEFT has no flexible heads: save the adapter alone (with_head=False), or load it into the transformers "
            "class with that head"
        )
    others = {} if found is None else _own_paths(found[1])
    plain = next(kind for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    tasks = (task for ending, task in _TASKS.items() if plain.__name__.endswith(ending))
    about = {
        "base_model_name_or_path": model.config.name_or_path or None,
        "task_type": next(tasks, None),
        "auto_mapping": {"base_model_class": plain.__name__, "parent_library": plain.__module__},
    }
    write_folder(folder, peft_files(content, peft_layout(model), others, about))


def save_head(model: "AdapterMixin", folder: Path, name: str | None, form: str) -> None:
    """Write a head as ``adapters`` does."""
    _check_has_heads(form)
    files = _head_files(model, name)
    if not files:
        raise HeadError(f"{type(model).__name__} has no head {name or ''} to save")
    write_folder(folder, files)


def save_fusion(
    model: "AdapterMixin", folder: Path, name: str, meta: Mapping[str, Any] | None, head: str | None, form: str
) -> None:
    """Write a fusion, and a head beside it, as ``adapters`` does."""
    _check_has_heads(form)
    check_unmerged(model)
    fusion = model.engine.get_fusion(name)
    about = _about(model) | dict(meta or {})
    files = {} if head is None else _head_files(model, head)
    config, tensors = fusion.config.to_dict(), whole_state(fusion)
    files |= adapters.fusion_files(name, config, fusion.adapter_names, tensors, layout(model), about)
    write_folder(folder, files)


def setup_version(setup: Composition, form: str) -> str:
    """What the file of a whole setup says of the library that reads it.

    Raises:
        CheckpointError: for a composition that it has not.
    """
    _check_has_heads(form)
    if any(isinstance(block, Rows) for block in setup.walk()):
        raise CheckpointError("adapters has no Rows: save in the format of adapterhub, or use BatchSplit")
    return adapters.VERSION


def _check_has_heads(form: str) -> None:
    if form == "peft":
        raise CheckpointError(
            "PEFT has no flexible heads, fusions or setups: save in the format of adapterhub or adapters"
        )


def _head_files(model: "AdapterMixin", name: str | None) -> dict[str, bytes]:
    """The files of a head; none where there is no such head."""
    found = model.head_part(name)
    if found is None:
        return {}
    name, part = found
    if part.config["head_type"] == "static" and not isinstance(model, FlexibleHeadsMixin):
        return adapters.own_head_files(_own_paths(part), model.config.id2label, _about(model))
    table = word_embeddings(model)
    labels = model.get_labels_dict(name) if isinstance(model, FlexibleHeadsMixin) else None
    weight = None if table is None else table.weight
    return adapters.head_files(name, part.config, part.tensors, labels, weight, _about(model))


def _own_paths(head: Part) -> dict[str, Tensor]:
    """The tensors of the head of a transformers class by their paths in that."""
    return {key.removeprefix("shell."): tensor for key, tensor in head.tensors.items()}


def _about(model: "AdapterMixin") -> dict[str, Any]:
    """What ``adapters`` says of a model."""
    return {
        "hidden_size": getattr(text_config(model.config), "hidden_size", None),
        "model_class": type(model).__name__,
        "model_name": model.config.name_or_path,
        "model_type": model.config.model_type,
    }


def layout(model: "AdapterMixin") -> adapters.Layout:
    """Where ``adapters`` keeps what in this model."""
    inside = hasattr(model, "heads")  # it has its heads around the base model, where ours are in it
    prefix = f"{model.base_model_prefix}." if inside and model.base_model is model else ""
    return adapters.Layout(model.config.model_type, model.sites, model.engine.places, prefix)


def peft_layout(model: "AdapterMixin") -> PeftLayout:
    """What the names of PEFT stand for in this model."""
    modules = tuple(path for path, _ in model.named_modules() if path.partition(".")[0] not in ADDED)
    return PeftLayout(model.engine.places, modules, model.config.model_type)
