"""Saving and loading fusions, and whole setups: a folder with everything that a composition needs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapterhub.checkpoints import FUSION_MANIFEST, Part, load_into, read, whole_state
from adapterhub.composition import SETUP, Composition, Fuse, composition_from_dict
from adapterhub.engine import sharing
from adapterhub.errors import CheckpointNotFoundError, CorruptCheckpointError
from adapterhub.files import make_folder, replace
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.saving import foreign, foreign_loading, native
from adapterhub.saving.shared import Chosen

if TYPE_CHECKING:
    from adapterhub.model import AdapterMixin


def save_fusion(
    model: "AdapterMixin", folder: Path, name: str, meta: Any = None, head: str | None = None, form: str = "adapterhub"
) -> None:
    """Write a fusion, and a head beside it; see ``ComposingMixin.save_adapter_fusion``."""
    if foreign.is_foreign(form):
        foreign.save_fusion(model, folder, name, meta, head, form)
        return
    fusion = model.engine.get_fusion(name)
    parts = {"fusion": Part(fusion.config.to_dict(), whole_state(fusion))}
    if head is not None and (found := model.head_part(head)) is not None:
        parts["head"] = found[1]
    info = native.described(model, name) | {"adapter_names": list(fusion.adapter_names)}
    native.write(folder, FUSION_MANIFEST, info | ({"meta": dict(meta)} if meta else {}), parts)


def load_fusion(model: "AdapterMixin", folder: Path, options: native.LoadOptions) -> str:
    """Read a fusion, and the head beside it; see ``ComposingMixin.load_adapter_fusion``."""
    if (foreign := foreign_loading.load_fusion(model, folder, options)) is not None:
        return foreign
    manifest = read(folder, FUSION_MANIFEST)
    if not manifest.has("fusion"):
        raise CheckpointNotFoundError(f"{folder} holds no fusion")
    if not options.allow_other_base:
        native.check_base(model, manifest, options.fingerprint)
    name = options.load_as or str(manifest.content["name"])
    model.engine.check_fusion_free(name, options.overwrite_ok)
    config = AdapterFusionConfig.from_dict(manifest.config("fusion"))
    with torch.random.fork_rng(devices=[]):
        fusion = model.engine.build_fusion(name, config, manifest.content["adapter_names"])
    load_into(fusion, manifest.tensors("fusion"), f"fusion {name!r}")
    put_head = None
    if options.with_head and manifest.has("head"):
        head = native.head_of(manifest)
        put_head = native.staged_head(model, folder, name, head, options.id2label, options.overwrite_ok)
    model.engine.hold_fusion(fusion)
    if put_head is not None:
        put_head()
    return name


def save_setup(
    model: "AdapterMixin", folder: Path, setup: Composition, heads: Any, meta: Any = None, form: str = "adapterhub"
) -> None:
    """Write every adapter, fusion and head of a setup, and the setup; see ``ComposingMixin.save_adapter_setup``."""
    version = foreign.setup_version(setup, form) if foreign.is_foreign(form) else native.VERSION
    for name in setup.names():
        model.save_adapter(folder / name, name, meta_dict=meta, format=form)
    for block in setup.walk():
        if isinstance(block, Fuse):
            save_fusion(model, folder / block.fusion, block.fusion, meta, None, form)
    for name in _names(heads):
        if name not in setup.names():
            model.save_head(folder / name, name, format=form)
    content = {"adapter_setup": setup.to_dict(), "head_setup": _written(heads), "version": version}
    if shared := sharing.names_by_group(model.adapters[name] for name in setup.names()):
        content["shared_parameters"] = shared
    make_folder(folder)
    replace(folder / SETUP, (json.dumps(content, indent=2) + "\n").encode())


def load_setup(model: "AdapterMixin", folder: Path, options: native.LoadOptions) -> tuple[Composition, Any]:
    """Read everything that ``save_setup`` wrote; see ``ComposingMixin.load_adapter_setup``."""
    try:
        content = json.loads((folder / SETUP).read_text(encoding="utf-8"))
        setup, heads = composition_from_dict(content["adapter_setup"]), _read_heads(content.get("head_setup"))
        shared = {
            str(group): [str(name) for name in names] for group, names in content.get("shared_parameters", {}).items()
        }
        merges = {str(name): dict(one) for name, one in content.get("merges", {}).items()}
        sources = dict.fromkeys(str(name) for one in merges.values() for name in one["weights"])
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"{folder} holds no setup ({SETUP})") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCheckpointError(f"{folder / SETUP} is not the setup of adapters: {error}") from error
    added: list[tuple[Any, str]] = []
    before = set(getattr(model, "heads", ()))
    try:
        for name in dict.fromkeys((*sources, *(one for one in setup.names() if one not in merges))):
            model.load_adapter(
                Chosen(_inside(folder, name), options.fingerprint),
                load_as=name,
                overwrite_ok=options.overwrite_ok,
                allow_pickle=options.allow_pickle,
            )
            added.append((model.delete_adapter, name))
        for name, merge in merges.items():
            _merge(model, name, merge, options.overwrite_ok)
            added.append((model.delete_adapter, name))
        for name in sources:
            if name not in setup.names():
                model.delete_adapter(name)
                added.remove((model.delete_adapter, name))
        for group, names in shared.items():
            _share(model, folder, group, names)
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


def _merge(model: "AdapterMixin", name: str, merge: Any, overwrite_ok: bool) -> None:
    """Make an adapter of others, as a composition of a hub says."""
    strategy, normalize = merge.get("strategy", "linear"), merge.get("normalize_weights", True)
    model.average_adapter(
        name,
        merge["weights"],
        combine_strategy=strategy,
        normalize_weights=normalize,
        overwrite_ok=overwrite_ok,
    )


def _share(model: "AdapterMixin", folder: Path, group: str, names: Sequence[str]) -> None:
    """Make adapters that were saved as ones that share their parameters do so again.

    Raises:
        CorruptCheckpointError: if their parameters are not the same.
    """
    first, *others = (model.engine.get(name) for name in names)
    for other in others:
        if (path := sharing.unequal(other, first)) is not None:
            raise CorruptCheckpointError(
                f"{folder / SETUP} says that {first.name!r} and {other.name!r} share their parameters, and {path} is "
                "not the same in both: one of them was replaced. Save the setup again."
            )
    model.share_parameters(names, name=group)


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
