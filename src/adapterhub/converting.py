"""A saved adapter, or a whole setup, from one format into another."""

import secrets
import shutil
from pathlib import Path
from typing import Any

from adapterhub.checkpoints.described import describe
from adapterhub.composition import SETUP
from adapterhub.errors import CheckpointError
from adapterhub.loading import load_adapter
from adapterhub.saving.foreign import is_foreign


def convert(
    source: str | Path,
    target: Path,
    form: str,
    model: str | Path | None = None,
    with_head: bool = True,
    allow_pickle: bool = False,
) -> dict[str, Any]:
    """Write the adapter (or setup) in ``source`` to the new folder ``target`` in another format.

    The folder appears whole, or not at all. ``model`` is the base model, where ``source`` names none that can be
    loaded; other arguments are those of ``adapterhub.load_adapter``. Returns what was converted, and from what.

    Raises:
        CheckpointError: if ``target`` is there already, ``source`` cannot be read, or the format has no equal of it.
        BackboneError: if the base model cannot be loaded.
        ConfigError: for an unknown format.
    """
    is_foreign(form)
    if target.exists():
        raise CheckpointError(f"{target} is there already: give a new folder, or remove that one")
    loaded: Any = load_adapter(source, model=model, with_head=with_head, allow_pickle=allow_pickle)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if isinstance(source, Path) and (source / SETUP).is_file():
            heads = loaded.active_head if with_head else None
            loaded.save_adapter_setup(temporary, loaded.active_adapters, heads, format=form)
        else:
            (name,) = loaded.adapters
            loaded.save_adapter(temporary, name, with_head=with_head, format=form)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    base = str(model or loaded.config.name_or_path)
    before = describe(Path(source)).format if Path(source).is_dir() else "a repository"
    return {"adapters": list(loaded.adapters), "from": before, "to": form, "base_model": base, "folder": str(target)}
