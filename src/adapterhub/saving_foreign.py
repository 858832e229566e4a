"""Loading what other libraries wrote, and writing what they load: checkpoints of PEFT, and of ``adapters``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from adapterhub.checkpoints import Content, Part, adapters, load_into, match_tensors, whole_state
from adapterhub.checkpoints.files import write_folder
from adapterhub.checkpoints.foreign import told
from adapterhub.checkpoints.peft import PeftCheckpoint, PeftLayout, peft_files, read_peft
from adapterhub.composition import Composition, Rows
from adapterhub.engine.named import ADDED
from adapterhub.errors import BaseModelMismatchError, CheckpointError, ConfigError, HeadError, TensorMismatchError
from adapterhub.heads import BaseInfo, FlexibleHeadsMixin, StaticHead
from adapterhub.heads.base import text_config, word_embeddings
from adapterhub.heads.static import settings_of
from adapterhub.methods import AdapterConfig
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.saving import LoadOptions, check_unmerged, staged_head, without

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
Puts = list[Callable[[], None]]
Where = TypeVar("Where", contravariant=True)


class Foreign(Protocol[Where]):
    """What a folder of another library holds, and how it is read where names stand for something in a model."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    def config(self, where: Where, /) -> AdapterConfig:
        """The configuration that acts as it does."""

    def read(self, content: Content, where: Where, /) -> dict[str, Tensor]:
        """Its tensors by their names here."""


def is_foreign(form: str) -> bool:
    """Whether a format of ``save_adapter`` is that of another library.

    Raises:
        ConfigError: for an unknown one.
    """
    if form not in FORMATS:
        raise ConfigError(f"format is one of {', '.join(FORMATS)}, not {form!r}")
    return form != FORMATS[0]


def load_adapter(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load an adapter that another library wrote; None if the folder holds none."""
    if (of_peft := read_peft(folder, options.allow_pickle)) is not None:
        return _load_peft(model, of_peft, options)
    if (found := adapters.read_adapters(folder, adapters.ADAPTER, options.allow_pickle)) is not None:
        return _load_adapters(model, found, options)
    return None


def load_fusion(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load a fusion that ``adapters`` wrote; None if the folder holds none."""
    found = adapters.read_adapters(folder, adapters.FUSION, options.allow_pickle)
    if found is None:
        return None
    _check_base(model, found, options)
    name = options.load_as or found.name
    model.engine.check_fusion_free(name, options.overwrite_ok)
    config = AdapterFusionConfig.from_dict(found.fusion_config)
    with told(folder), torch.random.fork_rng(devices=[]):
        fusion = model.engine.build_fusion(name, config, found.adapter_names)
        load_into(fusion, found.fusion(fusion.state_dict(), layout(model)), f"fusion {name!r} of {folder}")
    puts: Puts = [lambda: model.engine.hold_fusion(fusion), *_staged_head(model, folder, name, options)]
    for put in puts:
        put()
    return name


def load_head(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load a head that ``adapters`` wrote; None if the folder holds none."""
    found = adapters.read_adapters(folder, adapters.HEAD, options.allow_pickle)
    if found is None:
        return None
    name = options.load_as or found.name
    for put in _staged_head(model, folder, name, options):
        put()
    return name


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


def _load_adapters(model: "AdapterMixin", found: adapters.AdaptersCheckpoint, options: LoadOptions) -> str:
    """Load an adapter of ``adapters``, and the head beside it."""
    _check_base(model, found, options)
    name = _free_name(model, found.name, options)
    where = layout(model)
    put = _staged(model, name, found, where, options)
    return _finish(model, name, [put, *_staged_head(model, found.folder, name, options)], options)


def _load_peft(model: "AdapterMixin", found: PeftCheckpoint, options: LoadOptions) -> str:
    """Load an adapter of PEFT, and what was trained beside it, as long as this model has a place for it."""
    name = _free_name(model, found.name, options)
    where = peft_layout(model)
    put = _staged(model, name, found, where, options)
    return _finish(model, name, [put, *([_staged_others(model, found)] if options.with_head else [])], options)


def _free_name(model: "AdapterMixin", name: str, options: LoadOptions) -> str:
    name = options.load_as or name
    model.engine.check_free(name, options.overwrite_ok)
    check_unmerged(model)
    return name


def _finish(model: "AdapterMixin", name: str, puts: Puts, options: LoadOptions) -> str:
    """Change the model, now that all of a checkpoint is known to fit."""
    for put in puts:
        put()
    if options.set_active:
        model.set_active_adapters(name)
    return name


def _staged(
    model: "AdapterMixin", name: str, found: Foreign[Where], where: Where, options: LoadOptions
) -> Callable[[], None]:
    """What adds an adapter to a model, once its tensors are known to fit."""
    with told(found.folder), torch.random.fork_rng(devices=[]):
        config = found.config(where)
        adapter = model.engine.build(name, config)
        own = adapter.state_dict()
        began = {key: own[key] for key in own if key.endswith((".lora_A0", ".lora_B0"))}  # follows from the base model
        load_into(adapter, began | found.read(Content(config, own), where), f"adapter {name!r} of {found.folder}")
    made = without(model, adapter, options.leave_out) if options.leave_out else adapter
    return lambda: model.engine.hold(made)


def _check_base(model: "AdapterMixin", found: adapters.AdaptersCheckpoint, options: LoadOptions) -> None:
    """What ``adapters`` says of a base model is its type and its width; there is no fingerprint to compare."""
    config = model.config
    width = getattr(text_config(config), "hidden_size", None)
    said = (found.content.get("model_type"), found.content.get("hidden_size"))
    fits = said[0] == config.model_type and (said[1] is None or width is None or said[1] == width)
    if not fits and not options.allow_other_base:
        raise BaseModelMismatchError(
            f"{found.folder} was made for a model of type {said[0]} and width {said[1]} "
            f"({found.content.get('model_name') or 'unnamed'}), and this one is {config.model_type}, {width}. Load "
            "that base model, or pass allow_other_base=True if you know that it fits."
        )


def _staged_head(model: "AdapterMixin", folder: Path, name: str, options: LoadOptions) -> Puts:
    """What adds the head of ``adapters`` in a folder to a model; nothing where there is none, or none is wanted."""
    found = adapters.read_adapters(folder, adapters.HEAD, options.allow_pickle) if options.with_head else None
    if found is None:
        return []
    with told(folder):
        part = Part(*found.head(layout(model))) if found.content.get("config") else _static_head(model, found)
    return [staged_head(model, folder, name, part, options.id2label, options.overwrite_ok)]


def _static_head(model: "AdapterMixin", found: adapters.AdaptersCheckpoint) -> Part:
    """The head that a class of transformers had, of which ``adapters`` saves every parameter by its name there.

    Raises:
        HeadError: if transformers has no such class.
    """
    settings = settings_of(model.config)
    if labels := found.content.get("label2id"):
        settings |= {"label2id": labels, "id2label": {str(index): label for label, index in labels.items()}}
    head = StaticHead.of_class(str(found.content.get("model_class")), settings, BaseInfo.of(model))
    own, same = head.state_dict(), head.config.tied  # names of one parameter each: the other one may be in the file
    names = {key: key if f"shell.{key}" in own else same.get(key, key) for key in found.tensors}
    elsewhere = {name for pair in same.items() for name in pair if f"shell.{name}" not in own}  # the base model has it
    tensors = {f"shell.{name}": found.tensors[key] for key, name in names.items() if name not in elsewhere}
    return Part(head.to_dict(), tensors)


def _staged_others(model: "AdapterMixin", checkpoint: PeftCheckpoint) -> Callable[[], None]:
    """Copies what PEFT saved of whole modules into the head, once all of it is known to fit.

    Raises:
        HeadError: if this model has no such modules.
        CheckpointError: if they are of the base model, with other values than that has.
    """
    own = dict(model.named_parameters())
    try:
        match_tensors({key: own[key] for key in checkpoint.others if key in own}, checkpoint.others, "what was trained")
    except TensorMismatchError as error:
        raise HeadError(
            f"{checkpoint.folder} brings trained modules that {type(model).__name__} has not as they were: {error} "
            "Load it into the transformers class that it was made from, or without them (with_head=False)."
        ) from error
    inner = {id(parameter) for parameter in model.base_model.parameters()}
    base = [key for key in checkpoint.others if id(own[key]) in inner]
    changed = [
        key for key in base if not torch.equal(own[key].detach().cpu(), checkpoint.others[key].to(own[key].dtype))
    ]
    if changed:
        raise CheckpointError(
            f"{checkpoint.folder} brings other values of the base model itself ({', '.join(changed[:5])}), which never "
            "changes here. Write them into the base model and save that, or load without them (with_head=False)."
        )

    @torch.no_grad()
    def put() -> None:
        for key, tensor in checkpoint.others.items():
            if key not in base:
                own[key].copy_(tensor)

    return put
