"""Saving and loading the adapters and heads of a model; nothing of a model changes unless all of a checkpoint fits."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import adapterhub
from adapterhub.checkpoints import (
    ADAPTER_MANIFEST,
    HEAD_MANIFEST,
    Manifest,
    Part,
    Storage,
    fingerprint_of,
    load_into,
    read,
    whole_state,
    write,
)
from adapterhub.engine import Adapter, sharing
from adapterhub.errors import (
    BaseModelMismatchError,
    CheckpointNotFoundError,
    HeadError,
    LabelMismatchError,
    MergeError,
)
from adapterhub.files import replace
from adapterhub.fingerprint import Fingerprint, Match, compare
from adapterhub.methods import load_config
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.sites.interface import INTERFACE_FILE

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

logger = logging.getLogger(__name__)

RESTORED = ("adapters", "fusions", "vocabularies")  # read from the files of a model; heads are built with it
VERSION = f"adapterhub.{adapterhub.__version__}"


@dataclass(frozen=True)
class LoadOptions:
    """The arguments of ``load_adapter``."""

    load_as: str | None = None
    with_head: bool = True
    leave_out: tuple[int | str, ...] = ()
    id2label: Mapping[int, str] | None = None
    set_active: bool = False
    overwrite_ok: bool = False
    allow_other_base: bool = False
    allow_pickle: bool = False
    fingerprint: Fingerprint | None = None  # of the model, where it is known already


def save_adapter(
    model: "AdapterMixin",
    folder: Path,
    name: str,
    with_head: bool,
    meta: Mapping[str, Any] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    dtype: Storage | None,
) -> None:
    """Write an adapter and its head; see ``AdapterMixin.save_adapter``."""
    adapter = model.engine.get(name)
    parts = {"adapter": Part(adapter.config.to_dict(), whole_state(adapter))}
    head = model.head_part(name) if with_head else None
    if head is not None:
        parts["head"] = head[1]
    info = described(model, name, tokenizer)
    write(folder, ADAPTER_MANIFEST, info | ({"meta": dict(meta)} if meta else {}), parts, dtype)


def load_adapter(model: "AdapterMixin", folder: Path, options: LoadOptions) -> str:
    """Read an adapter and its head; see ``AdapterMixin.load_adapter``."""
    manifest = read(folder, ADAPTER_MANIFEST)
    if not manifest.has("adapter"):
        raise CheckpointNotFoundError(f"{folder} holds a head and no adapter; load it by load_head")
    if not options.allow_other_base:
        check_base(model, manifest, options.fingerprint)
    name = options.load_as or str(manifest.content.get("name") or folder.name)
    model.engine.check_free(name, options.overwrite_ok)
    adapter = _read_adapter(model, manifest, name, options.leave_out)
    puts: list[Callable[[], None]] = [lambda: model.engine.hold(adapter)]
    if options.with_head and manifest.has("head"):
        puts.append(staged_head(model, folder, name, head_of(manifest), options.id2label, options.overwrite_ok))
    for put in puts:
        put()
    if options.set_active:
        model.set_active_adapters(name)
    return name


def save_head(model: "AdapterMixin", folder: Path, head_name: str | None) -> None:
    """Write a head; see ``AdapterMixin.save_head``."""
    head = model.head_part(head_name)
    if head is None:
        which = "no head that could be saved" if head_name is None else f"no head {head_name!r} to save"
        raise HeadError(f"{type(model).__name__} has {which}")
    name, part = head
    write(folder, HEAD_MANIFEST, described(model, name), {"head": part})


def load_head(
    model: "AdapterMixin",
    folder: Path,
    load_as: str | None,
    id2label: Mapping[int, str] | None,
    overwrite_ok: bool,
) -> str:
    """Read a head; see ``AdapterMixin.load_head``."""
    alone = (folder / HEAD_MANIFEST).exists() or not (folder / ADAPTER_MANIFEST).exists()
    manifest = read(folder, HEAD_MANIFEST if alone else ADAPTER_MANIFEST)
    if not manifest.has("head"):
        raise CheckpointNotFoundError(f"{folder} holds an adapter and no head")
    name = load_as or str(manifest.content.get("name") or folder.name)
    staged_head(model, folder, name, head_of(manifest), id2label, overwrite_ok)()
    return name


def restore(model: "AdapterMixin", name_or_path: str | PathLike[str] | None, options: Mapping[str, Any]) -> None:
    """Build what ``save_pretrained`` wrote with a model, adapters, fusions and embeddings, from the model's files."""
    saved = getattr(model.config, "adapterhub", None) or {}
    fusions = getattr(model.config, "adapterhub_fusions", None) or {}
    embeddings = getattr(model.config, "adapterhub_embeddings", None)
    if not (saved or embeddings) or name_or_path is None:
        return
    folder = Path(name_or_path)
    if not folder.is_dir():
        where = {
            name: options[name] for name in ("revision", "token", "cache_dir", "local_files_only") if name in options
        }
        folder = Path(snapshot_download(str(name_or_path), allow_patterns=["*.safetensors"], **where))
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            added = [key for key in opened.keys() if key.partition(".")[0] in RESTORED]  # noqa: SIM118
            tensors |= {key: opened.get_tensor(key) for key in added}
    for name, values in saved.items():
        adapter = model.engine.build(name, load_config(values))
        load_into(adapter, _under(f"adapters.{name}.", tensors), f"adapter {name!r} of {name_or_path}")
        model.engine.hold(adapter)
    for group, names in (getattr(model.config, "adapterhub_shared", None) or {}).items():
        sharing.share([model.adapters[name] for name in names], group, model.adapters[names[0]])
    for name, values in fusions.items():
        config = AdapterFusionConfig.from_dict(values["config"])
        fusion = model.engine.build_fusion(name, config, values["adapter_names"])
        load_into(fusion, _under(f"fusions.{name}.", tensors), f"fusion {name!r} of {name_or_path}")
        model.engine.hold_fusion(fusion)
    if embeddings:
        stored = {name: _under(f"vocabularies.{name}.", tensors) for name in embeddings["others"]}
        model.restore_embeddings(embeddings, stored)


def save_interface(model: "AdapterMixin", folder: str | PathLike[str]) -> None:
    """Write the description of a model's sites beside the model, if they were described by an interface."""
    if model.adapter_interface is not None:
        content = model.adapter_interface.content(model.config.model_type, VERSION)
        replace(Path(folder) / INTERFACE_FILE, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def head_class_of(model: PreTrainedModel) -> type[PreTrainedModel] | None:
    """The transformers class with a head that a checkpoint was saved as, unless its heads are flexible."""
    architecture = (model.config.architectures or [""])[0]
    made = getattr(transformers, architecture, None)
    known = isinstance(made, type) and issubclass(made, PreTrainedModel) and not isinstance(model, made)
    return made if known and not getattr(model.config, "prediction_heads", None) else None


def fingerprint(model: "AdapterMixin", tokenizer: PreTrainedTokenizerBase | None = None) -> Fingerprint:
    """What tells the base model of ``model`` from others.

    Raises:
        MergeError: if an adapter is merged into it.
    """
    check_unmerged(model)
    return fingerprint_of(model, model.engine.layers, tokenizer)


def check_unmerged(model: "AdapterMixin") -> None:
    """Pass a model whose base is as it came.

    Raises:
        MergeError: if an adapter is merged into it.
    """
    if model.merged_adapter is not None:
        raise MergeError(
            f"the base model holds the merged adapter {model.merged_adapter!r}, so it is not the one that adapters are "
            "for: call reset_adapter() first"
        )


def described(model: "AdapterMixin", name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, Any]:
    """What a manifest says of a part, its base model and the versions that made it."""
    return {
        "name": name,
        "base_model": fingerprint(model, tokenizer).to_dict(),
        "model_class": type(model).__name__.removeprefix("FSDP"),  # as FSDP2 renames it
        "versions": {
            "adapterhub": adapterhub.__version__,
            "torch": torch.__version__,
            "transformers": version("transformers"),
        },
    }


def check_base(model: "AdapterMixin", manifest: Manifest, known: Fingerprint | None = None) -> None:
    """Pass a checkpoint that was made for the base model of ``model``, whose fingerprint may be ``known``.

    Raises:
        BaseModelMismatchError: for any other.
    """
    check_made_for(manifest.content.get("base_model"), known or fingerprint(model), manifest.folder)


def check_made_for(said: Mapping[str, Any] | None, here: Fingerprint, folder: Path) -> None:
    """Pass a checkpoint that says (``said``) that it was made for the base model ``here``.

    Raises:
        BaseModelMismatchError: for any other.
    """
    if said is None:
        raise BaseModelMismatchError(
            f"{folder} does not say for which base model it was made. Pass allow_other_base=True if you know "
            "that it fits."
        )
    saved = Fingerprint.from_dict(said, str(folder))
    match, reasons = compare(saved, here)
    if match < Match.SAME:
        raise BaseModelMismatchError(
            f"{folder} was made for another base model ({saved.name or 'unnamed'}) than this one "
            f"({here.name or 'unnamed'}): {'; '.join(reasons)}. Load that base model, or pass allow_other_base=True "
            "if you know that it fits."
        )
    if reasons:
        logger.warning("%s was made for this base model, but: %s", folder, "; ".join(reasons))


def _read_adapter(model: "AdapterMixin", manifest: Manifest, name: str, leave_out: tuple[int | str, ...]) -> Adapter:
    config = load_config(manifest.config("adapter"))
    with torch.random.fork_rng(devices=[]):  # initial values that are replaced must not shift anyone's random numbers
        adapter = model.engine.build(name, config)
    load_into(adapter, manifest.tensors("adapter"), f"adapter {name!r}")
    return without(model, adapter, leave_out) if leave_out else adapter


def without(model: "AdapterMixin", adapter: Adapter, layers: tuple[int | str, ...]) -> Adapter:
    """An adapter that leaves out more layers, and is the same in the others."""
    less = adapter.config.leaving_out(layers)
    with torch.random.fork_rng(devices=[]):
        rest = model.engine.build(adapter.name, less)
    own = rest.state_dict()
    load_into(rest, {key: tensor for key, tensor in adapter.state_dict().items() if key in own}, adapter.name)
    return rest


def staged_head(
    model: "AdapterMixin",
    folder: Path,
    name: str,
    part: Part,
    id2label: Mapping[int, str] | None,
    overwrite_ok: bool,
) -> Callable[[], None]:
    """What adds the head of a checkpoint to a model, once it is known to fit.

    Raises:
        LabelMismatchError: if it has other labels than ``id2label``.
    """
    labels = part.config.get("id2label") or (part.config.get("settings") or {}).get("id2label") or {}
    found = {int(index): str(label) for index, label in labels.items()}
    if id2label is not None and found != {int(index): str(label) for index, label in id2label.items()}:
        raise LabelMismatchError(
            f"{folder}: the head has the labels {found}, not {dict(id2label)}. Load it without id2label, or "
            "without the head (with_head=False) and add a new one."
        )
    return model.stage_head(name, part, overwrite_ok)


def head_of(manifest: Manifest) -> Part:
    """The head that a manifest describes, its tensors checked."""
    return Part(manifest.config("head"), manifest.tensors("head"))
