"""Compositions of adapters of a hub: each with its members in one folder, as ``save_adapter_setup`` writes one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from adapterhub.composition import SETUP
from adapterhub.errors import HubError
from adapterhub.files import replace
from adapterhub.hub.client import cache
from adapterhub.hub.client.resolving import Found
from adapterhub.hub.lock import LockedFile
from adapterhub.hub.recipe import RECIPE, Recipe


def whole(folder: Path, fetch: Callable[[str], Found | None]) -> Path:
    """A folder with the members of the composition in another, of which ``fetch`` brings each here.

    Raises:
        CompositionError: if there is no composition.
        HubError: if a member cannot be fetched.
    """
    recipe = Recipe.read((folder / RECIPE).read_bytes())
    target = folder.with_name(f"{folder.name}--whole")
    for name, member in recipe.members.items():
        if (found := fetch(f"@{member}")) is None:
            raise HubError(f"the composition needs {member} as {name!r}, and the hub does not have its files")
        for path, file in _inner(found.files).items():
            cache.link(target / name / path, file)
    content = {
        "adapter_setup": recipe.composition.to_dict(),
        "head_setup": list(recipe.heads) or None,
        "merges": {name: merge.to_dict() for name, merge in recipe.merges.items()},
    }
    replace(target / SETUP, (json.dumps(content, indent=2) + "\n").encode())
    return target


def _inner(files: Mapping[str, LockedFile]) -> Mapping[str, LockedFile]:
    """The files that make an adapter, without those that are about it."""
    return {path: file for path, file in files.items() if path.endswith((".json", ".safetensors"))}
