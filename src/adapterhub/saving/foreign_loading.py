"""Loading what other libraries wrote: checkpoints of PEFT, and of ``adapters``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor

from adapterhub.checkpoints import Content, Part, adapters, load_into, match_tensors
from adapterhub.checkpoints.foreign import told
from adapterhub.checkpoints.peft import PeftCheckpoint, read_peft
from adapterhub.engine import Adapter
from adapterhub.errors import BaseModelMismatchError, CheckpointError, HeadError, TensorMismatchError
from adapterhub.heads import BaseInfo, StaticHead
from adapterhub.heads.base import text_config
from adapterhub.heads.static import settings_of
from adapterhub.methods import AdapterConfig
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.saving.foreign import layout, peft_layout
from adapterhub.saving.native import LoadOptions, check_unmerged, staged_head, without

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

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


def load_adapter(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load an adapter that another library wrote; None if the folder holds none."""
    if (of_peft := read_peft(folder, options.allow_pickle)) is not None:
        return _load_peft(model, of_peft, options)
    if (found := adapters.read_adapters(folder, adapters.ADAPTER, options.allow_pickle)) is not None:
        return _load_adapters(model, found, options)
    return None


def read_parts(model: "AdapterMixin", folder: Path, options: LoadOptions) -> tuple[str, dict[str, Part]] | None:
    """The name of an adapter that another library wrote, and its parts (``"adapter"``, ``"head"``) as ours; None if the
    folder holds none.

    Raises:
        CheckpointError: as ``load_adapter`` of a model.
        HeadError: if modules of the model itself were trained beside it.
    """
    check_unmerged(model)
    if (of_peft := read_peft(folder, options.allow_pickle)) is not None:
        if of_peft.others and options.with_head:
            raise HeadError(
                f"{folder} brings trained modules of the model itself, which cannot be changed by the call: load it by "
                "load_adapter, or register it without them (with_head=False)"
            )
        return of_peft.name, {"adapter": _part(_built(model, of_peft.name, of_peft, peft_layout(model)))}
    if (found := adapters.read_adapters(folder, adapters.ADAPTER, options.allow_pickle)) is None:
        return None
    _check_base(model, found, options)
    parts = {"adapter": _part(_built(model, found.name, found, layout(model)))}
    if (head := _head_part(model, folder, options)) is not None:
        parts["head"] = head
    return found.name, parts


def _part(adapter: Adapter) -> Part:
    return Part(adapter.config.to_dict(), adapter.state_dict())


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
    adapter = _built(model, name, found, where)
    made = without(model, adapter, options.leave_out) if options.leave_out else adapter
    return lambda: model.engine.hold(made)


def _built(model: "AdapterMixin", name: str, found: Foreign[Where], where: Where) -> Adapter:
    """The adapter that acts as what another library wrote."""
    with told(found.folder), torch.random.fork_rng(devices=[]):
        config = found.config(where)
        adapter = model.engine.build(name, config)
        own = adapter.state_dict()
        began = {key: own[key] for key in own if key.endswith((".lora_A0", ".lora_B0"))}  # follows from the base model
        load_into(adapter, began | found.read(Content(config, own), where), f"adapter {name!r} of {found.folder}")
    return adapter


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
    part = _head_part(model, folder, options)
    return [] if part is None else [staged_head(model, folder, name, part, options.id2label, options.overwrite_ok)]


def _head_part(model: "AdapterMixin", folder: Path, options: LoadOptions) -> Part | None:
    """The head of ``adapters`` in a folder; None where there is none, or none is wanted."""
    found = adapters.read_adapters(folder, adapters.HEAD, options.allow_pickle) if options.with_head else None
    if found is None or _is_own_output(model, found):
        return None
    with told(folder):
        return Part(*found.head(layout(model))) if found.content.get("config") else _static_head(model, found)


def _is_own_output(model: "AdapterMixin", found: adapters.AdaptersCheckpoint) -> bool:
    """Whether a head is that of a model whose class has output embeddings, which are no head here, with its values."""
    if found.content.get("model_class") != type(model).__name__ or model.get_output_embeddings() is None:
        return False
    own = model.state_dict()
    return all(key in own and own[key].to(tensor).equal(tensor) for key, tensor in found.tensors.items())


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
