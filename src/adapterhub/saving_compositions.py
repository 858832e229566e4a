"""Saving and loading fusions, and whole setups: a folder with everything that a composition needs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapterhub import saving, saving_foreign
from adapterhub.checkpoints import FUSION_MANIFEST, Part, load_into, read, whole_state
from adapterhub.checkpoints.files import make_folder, replace
from adapterhub.composition import Composition, Fuse, composition_from_dict
from adapterhub.errors import CheckpointNotFoundError, CorruptCheckpointError
from adapterhub.methods.fusion import AdapterFusionConfig

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin

SETUP = "adapter_setup.json"


def save_fusion(model: "AdapterMixin", folder: Path, name: str, meta: Any = None, head: str | None = None) -> None:
    """Write a fusion, and a head beside it; see ``ComposingMixin.save_adapter_fusion``."""
    fusion = model.engine.get_fusion(name)
    parts = {"fusion": Part(fusion.config.to_dict(), whole_state(fusion))}
    if head is not None and (found := model.head_part(head)) is not None:
        parts["head"] = found[1]
    info = saving.described(model, name) | {"adapter_names": list(fusion.adapter_names)}
    saving.write(folder, FUSION_MANIFEST, info | ({"meta": dict(meta)} if meta else {}), parts)


def load_fusion(model: "AdapterMixin", folder: Path, options: saving.LoadOptions) -> str:
    """Read a fusion, and the head beside it; see ``ComposingMixin.load_adapter_fusion``."""
    if (foreign := saving_foreign.load_fusion(model, folder, options)) is not None:
        return foreign
    manifest = read(folder, FUSION_MANIFEST)
    if not manifest.has("fusion"):
        raise CheckpointNotFoundError(f"{folder} holds no fusion")
    if not options.allow_other_base:
        saving.check_base(model, manifest)
    name = options.load_as or str(manifest.content["name"])
    model.engine.check_fusion_free(name, options.overwrite_ok)
    config = AdapterFusionConfig.from_dict(manifest.config("fusion"))
    with torch.random.fork_rng(devices=[]):
        fusion = model.engine.build_fusion(name, config, manifest.content["adapter_names"])
    load_into(fusion, manifest.tensors("fusion"), f"fusion {name!r}")
    put_head = None
    if options.with_head and manifest.has("head"):
        put_head = saving.staged_head(model, manifest, name, options.id2label, options.overwrite_ok)
    model.engine.hold_fusion(fusion)
    if put_head is not None:
        put_head()
    return name


def save_setup(model: "AdapterMixin", folder: Path, setup: Composition, heads: Any, meta: Any = None) -> None:
    """Write every adapter, fusion and head of a setup, and the setup; see ``ComposingMixin.save_adapter_setup``."""
    for name in setup.names():
        model.save_adapter(folder / name, name, meta_dict=meta)
    for block in setup.walk():
        if isinstance(block, Fuse):
            save_fusion(model, folder / block.fusion, block.fusion, meta)
    for name in _names(heads):
        if name not in setup.names():
            model.save_head(folder / name, name)
    content = {"adapter_setup": setup.to_dict(), "head_setup": _written(heads), "version": saving.VERSION}
    make_folder(folder)
    replace(folder / SETUP, (json.dumps(content, indent=2) + "\n").encode())


def load_setup(model: "AdapterMixin", folder: Path, options: saving.LoadOptions) -> tuple[Composition, Any]:
    """Read everything that ``save_setup`` wrote; see ``ComposingMixin.load_adapter_setup``."""
    try:
        content = json.loads((folder / SETUP).read_text(encoding="utf-8"))
        setup, heads = composition_from_dict(content["adapter_setup"]), _read_heads(content.get("head_setup"))
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"{folder} holds no setup ({SETUP})") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{folder / SETUP} is not the setup of adapters: {error}") from error
    added: list[tuple[Any, str]] = []
    before = set(getattr(model, "heads", ()))
    try:
        for name in setup.names():
            model.load_adapter(
                _inside(folder, name),
                load_as=name,
                overwrite_ok=options.overwrite_ok,
                allow_pickle=options.allow_pickle,
            )
            added.append((model.delete_adapter, name))
        for fuse in {block.fusion for block in setup.walk() if isinstance(block, Fuse)}:
            load_fusion(model, _inside(folder, fuse), options)
            added.append((model.engine.delete_fusion, fuse))
        for name in _names(heads):
            if name not in setup.names():
                model.load_head(
                    _inside(folder, name),
                    load_as=name,
                    overwrite_ok=options.overwrite_ok,
                    allow_pickle=options.allow_pickle,
                )
    except BaseException:
        if not options.overwrite_ok:  # nothing was replaced: the model is as it was once all of it is gone again
            for delete, name in reversed(added):
                delete(name)
            for name in set(getattr(model, "heads", ())) - before:
                model.delete_head(name)
        raise
    return setup, heads


def _inside(folder: Path, name: str) -> Path:
    """The folder of a part.

    Raises:
        CorruptCheckpointError: for a name that leads out of ``folder``.
    """
    path = folder / name
    if path.resolve().parent != folder.resolve() and not path.resolve().is_relative_to(folder.resolve()):
        raise CorruptCheckpointError(f"{folder / SETUP}: {name!r} leads out of the folder")
    return path


def _names(heads: Any) -> tuple[str, ...]:
    if heads is None or isinstance(heads, bool):
        return ()
    if isinstance(heads, str):
        return (heads,)
    return heads.names() if isinstance(heads, Composition) else tuple(heads)


def _written(heads: Any) -> Any:
    return heads.to_dict() if isinstance(heads, Composition) else list(heads) if isinstance(heads, tuple) else heads


def _read_heads(heads: Any) -> Any:
    return composition_from_dict(heads) if isinstance(heads, dict) else heads
