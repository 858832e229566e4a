"""What a repository holds: an adapter, a fusion or a whole setup, of any of the three formats, or a recipe."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NoReturn

from adapterhub.composition import SETUP, Fuse, composition_from_dict
from adapterhub.errors import AdapterHubError, UploadRefusedError
from adapterhub.hub.inspecting import adapters, native, peft, recipes
from adapterhub.hub.inspecting.files import UNPICKLE, Opener
from adapterhub.hub.inspecting.formats import Folder, Known, mapping
from adapterhub.hub.inspecting.info import AdapterInfo, config_hash

_MANIFESTS = (native.ADAPTER, native.FUSION, adapters.FUSION, native.HEAD, native.EMBEDDINGS)


def inspect(
    files: Mapping[str, Opener], base: str | None = None, known: Mapping[str, Known] = MappingProxyType({})
) -> AdapterInfo | None:
    """What the files of a repository, by their paths, hold; None where there is no adapter among them.

    Files that no manifest names are not looked at (``files.check_files`` does so). ``base`` is the base model that
    something else declares, the card say, and counts where the files name none; ``known`` is what need not be looked
    for in some files again.

    Raises:
        UploadRefusedError: if files are missing, unsafe, malformed, or not what the configuration says, with the
            file, the tensor, and what to do.
    """
    if (recipe := recipes.inspect(Folder(files, known=known))) is not None:
        return recipe
    folder = _main(Folder(files, known=known))
    if folder is None:
        return None
    info = _setup(folder) if SETUP in folder.files else _single(folder)
    assert info is not None
    if info.base is None and info.fingerprint is None:
        if not base:
            _refuse(
                info.files[0],
                "does not say which base model it is for: write its name on a hub there (base_model_name_or_path of "
                "PEFT, model_name of adapters), or as base_model in the card (README.md)",
            )
        info = replace(info, base=base)
    return info


def _main(folder: Folder) -> Folder | None:
    """The folder with the adapter: the repository itself, or the one folder in it that has one, as PEFT makes them.

    Raises:
        UploadRefusedError: if there are several, or weights without a configuration.
    """
    known = (SETUP, *_MANIFESTS)
    if any(name in folder.files for name in known):
        return folder
    inner = sorted({path.partition("/")[0] for path in folder.files if path.partition("/")[2] in known})
    if len(inner) > 1:
        _refuse(
            "this repository",
            f"holds several adapters ({', '.join(inner[:5])}): upload each to its own, or save them as one setup "
            "(save_adapter_setup)",
        )
    if not inner:
        if pickled := [path for path in folder.files if path.endswith(("adapter_model.bin", "pytorch_adapter.bin"))]:
            _refuse(pickled[0], f"is a pickle: {UNPICKLE}")
        return None
    return folder.sub(inner[0])


def _single(folder: Folder) -> AdapterInfo | None:
    """What the first manifest of a folder describes, once all of them are found right."""
    found = [
        _read(folder, name, content)
        for name in _MANIFESTS
        if (content := folder.config(name)) is not None and not (name == native.HEAD and _beside(folder))
    ]
    return found[0] if found else None


def _beside(folder: Folder) -> bool:
    """Whether the head of a folder is read with the adapter that it stands beside."""
    content = folder.config(native.ADAPTER)
    return content is not None and "format" not in content and "peft_type" not in content


def _read(folder: Folder, name: str, content: Mapping[str, Any]) -> AdapterInfo:
    """What one manifest describes, in which options may be of any type.

    Raises:
        UploadRefusedError: for one of no known format, and in place of what goes wrong with options of other types.
    """
    try:
        if content.get("format") == native.FORMAT and name in native.KINDS:
            return native.inspect(folder, name, content)
        if "peft_type" in content and name == peft.CONFIG:
            return peft.inspect(folder, content)
        if "model_type" in content and "format" not in content and name in adapters.WEIGHTS:
            return adapters.inspect(folder, name, content)
    except UploadRefusedError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UploadRefusedError(
            f"{folder.at(name)} holds options that no adapter of its method has ({type(error).__name__}: "
            f"{str(error)[:200]}). Save it again."
        ) from error
    raise UploadRefusedError(
        f"{folder.at(name)} is of no known format: it has neither format 'adapterhub', nor a peft_type, nor the "
        "model_type of adapters. Save the adapter again."
    )


def _setup(folder: Folder) -> AdapterInfo:
    """A whole setup: a composition, and a folder for each adapter, fusion and head of it.

    Raises:
        UploadRefusedError: if a folder is missing, one is not right, or they are for several base models.
    """
    where = folder.at(SETUP)
    content = folder.config(SETUP)
    assert content is not None
    setup = mapping(content, "adapter_setup", where)
    needed = _names(setup, content.get("head_setup"), where)
    members: dict[str, AdapterInfo] = {}
    for name in dict.fromkeys((*needed, *_folders(folder))):
        found = _single(folder.sub(name))
        if found is None:
            _refuse(where, f"names {name!r}, and there is no folder with it: upload all that save_adapter_setup wrote")
        members[name] = found
    if not members:
        _refuse(where, "names no adapter: save it again with save_adapter_setup")
    first = next(iter(members.values()))
    for name, member in members.items():
        if (member.base, member.fingerprint, member.format) != (first.base, first.fingerprint, first.format):
            _refuse(
                where, f"is of parts for several base models or of several formats: {name!r} differs. Save it again"
            )
    config = {"adapter_setup": setup, "head_setup": content.get("head_setup")}
    config |= {"shared_parameters": content["shared_parameters"]} if content.get("shared_parameters") else {}
    return replace(
        first,
        kind="composition",
        name=None,
        method="composition",
        methods=tuple(dict.fromkeys(method for member in members.values() for method in member.methods)),
        config=config,
        config_hash=config_hash(config | {"members": {name: one.config_hash for name, one in members.items()}}),
        parameters=sum(member.parameters for member in members.values()),
        dtypes=tuple(sorted({dtype for member in members.values() for dtype in member.dtypes})),
        size=sum(member.size for member in members.values()),
        rank=None,
        reduction_factor=None,
        hidden_size=first.hidden_size,
        layers=max((member.layers for member in members.values() if member.layers is not None), default=None),
        head=next((member.head for member in members.values() if member.head is not None), None),
        needs=tuple(dict.fromkeys(need for member in members.values() for need in member.needs)),
        members=members,
        files=(where, *(file for member in members.values() for file in member.files)),
    )


def _folders(folder: Folder) -> list[str]:
    return sorted({path.partition("/")[0] for path in folder.files if path.partition("/")[2] in _MANIFESTS})


def _names(setup: Any, heads: Any, where: str) -> list[str]:
    """The names of the folders of a setup: of adapters, fusions and heads.

    Raises:
        UploadRefusedError: if it is no composition.
    """
    try:
        found = composition_from_dict(setup)
        fusions = [block.fusion for block in found.walk() if isinstance(block, Fuse)]
        named = composition_from_dict(heads).names() if isinstance(heads, dict) else heads
        listed = () if named is None or isinstance(named, bool) else (named,) if isinstance(named, str) else named
        return [*found.names(), *fusions, *map(str, listed)]
    except (AdapterHubError, AttributeError, ValueError, TypeError) as error:
        raise UploadRefusedError(f"{where} is not the setup of adapters: {str(error)[:200]}. Save it again.") from error


def _refuse(where: str, why: str) -> NoReturn:
    raise UploadRefusedError(f"{where} {why}.")
