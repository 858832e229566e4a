"""A composition of adapters of a hub, without files of its own."""

from adapterhub.errors import CompositionError, UploadRefusedError
from adapterhub.hub.inspecting.configs import hub_name
from adapterhub.hub.inspecting.formats import Folder
from adapterhub.hub.inspecting.info import AdapterInfo, config_hash
from adapterhub.hub.recipe import RECIPE, Recipe


def inspect(folder: Folder) -> AdapterInfo | None:
    """What the recipe in a folder holds, as far as it says itself; None where there is none.

    Raises:
        UploadRefusedError: if it is malformed.
    """
    content = folder.config(RECIPE)
    if content is None:
        return None
    try:
        recipe = Recipe.from_dict(content)
    except CompositionError as error:
        raise UploadRefusedError(f"{folder.at(RECIPE)}: {error}") from error
    if not hub_name(recipe.base):
        raise UploadRefusedError(f"{folder.at(RECIPE)}: the base {recipe.base[:96]!r} is no name of a model on a hub")
    config = recipe.to_dict()
    return AdapterInfo(
        kind="composition",
        format="adapterhub",
        name=None,
        method="composition",
        methods=(),
        config=config,
        config_hash=config_hash(config),
        parameters=0,
        dtypes=(),
        size=0,
        base=recipe.base,
        files=(folder.at(RECIPE),),
    )
