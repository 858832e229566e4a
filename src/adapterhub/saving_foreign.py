"""Loading what other libraries wrote: PEFT's checkpoints, and those of ``adapters``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapterhub.checkpoints import Part, PeftCheckpoint, adapters, load_into, match_tensors, read_peft
from adapterhub.engine import Fusion
from adapterhub.errors import (
    BaseModelMismatchError,
    HeadError,
    LabelMismatchError,
    TensorMismatchError,
)
from adapterhub.heads.base import text_config
from adapterhub.methods import AdapterConfig
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.saving import LoadOptions, check_unmerged, without

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin


def load_adapter(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load an adapter that another library wrote; None if the folder holds none."""
    if (of_peft := read_peft(folder)) is not None:
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
    values, adapter_names, tensors = found.fusion(model.sites, model.engine.places)
    with torch.random.fork_rng(devices=[]):
        fusion: Fusion = model.engine.build_fusion(name, AdapterFusionConfig.from_dict(values), adapter_names)
    load_into(fusion, tensors, f"fusion {name!r} of {folder}")
    put_head = _staged_head(model, folder, name, options) if options.with_head else None
    model.engine.hold_fusion(fusion)
    if put_head is not None:
        put_head()
    return name


def load_head(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str | None:
    """Load a head that ``adapters`` wrote; None if the folder holds none."""
    found = adapters.read_adapters(folder, adapters.HEAD, options.allow_pickle)
    if found is None:
        return None
    name = options.load_as or found.name
    put = _staged_head(model, folder, name, options)
    assert put is not None
    put()
    return name


def _load_adapters(model: "AdapterMixin", found: adapters.AdaptersCheckpoint, options: LoadOptions) -> str:
    """Load an adapter of ``adapters``, and the head beside it."""
    _check_base(model, found, options)
    name = options.load_as or found.name
    model.engine.check_free(name, options.overwrite_ok)
    check_unmerged(model)
    config, tensors = found.adapter(model.sites, model.engine.places)
    put_head = _staged_head(model, found.folder, name, options) if options.with_head else None
    _hold(model, name, config, tensors, found.folder, options)
    if put_head is not None:
        put_head()
    if options.set_active:
        model.set_active_adapters(name)
    return name


def _hold(
    model: "AdapterMixin",
    name: str,
    config: AdapterConfig,
    tensors: dict[str, Tensor],
    folder: Path,
    options: LoadOptions,
) -> None:
    with torch.random.fork_rng(devices=[]):
        adapter = model.engine.build(name, config)
    own = adapter.state_dict()
    began = {key: own[key] for key in own if key.endswith((".lora_A0", ".lora_B0"))}  # follows from the base model
    load_into(adapter, began | tensors, f"adapter {name!r} of {folder}")
    model.engine.hold(without(model, adapter, options.leave_out) if options.leave_out else adapter)


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


def _staged_head(model: "AdapterMixin", folder: Path, name: str, options: LoadOptions) -> Callable[[], None] | None:
    found = adapters.read_adapters(folder, adapters.HEAD, options.allow_pickle)
    if found is None:
        return None
    config, tensors = found.head()
    labels = config.get("id2label") or {}
    if options.id2label is not None and labels != {int(key): str(label) for key, label in options.id2label.items()}:
        raise LabelMismatchError(
            f"{folder}: the head has the labels {labels}, not {dict(options.id2label)}. Load it without id2label, or "
            "without the head (with_head=False) and add a new one."
        )
    return model.stage_head(name, Part(config, tensors), options.overwrite_ok)


def _load_peft(model: "AdapterMixin", checkpoint: PeftCheckpoint, options: LoadOptions) -> str:
    """Read a checkpoint of PEFT, and what it trained beside its adapter, as long as this model has a place for it."""
    name = options.load_as or checkpoint.folder.resolve().name.replace(".", "-")
    model.engine.check_free(name, options.overwrite_ok)
    check_unmerged(model)
    config, tensors = checkpoint.converted(model.engine.places)
    put_others = _staged_others(model, checkpoint) if options.with_head else None
    _hold(model, name, config, tensors, checkpoint.folder, options)
    if put_others is not None:
        put_others()
    if options.set_active:
        model.set_active_adapters(name)
    return name


def _staged_others(model: "AdapterMixin", checkpoint: PeftCheckpoint) -> Callable[[], None]:
    """Copies what PEFT saved of whole modules, once all of it is known to fit."""
    own = dict(model.named_parameters())
    try:
        match_tensors({key: own[key] for key in checkpoint.others if key in own}, checkpoint.others, "what was trained")
    except TensorMismatchError as error:
        raise HeadError(
            f"{checkpoint.folder} brings trained modules that {type(model).__name__} has not as they were: {error} "
            "Load it into the transformers class that it was made from, or without them (with_head=False)."
        ) from error

    @torch.no_grad()
    def put() -> None:
        for key, tensor in checkpoint.others.items():
            own[key].copy_(tensor)

    return put
