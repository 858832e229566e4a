"""The native format: a manifest that names its weights files with their SHA-256 (docs/checkpoints.md)."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from adapterhub.errors import CorruptCheckpointError, UploadRefusedError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.inspecting.formats import Folder, base_name, mapping, text
from adapterhub.hub.inspecting.forms import Part, Shape, needs, parts
from adapterhub.hub.inspecting.heads import head_info, head_needs
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash
from adapterhub.hub.inspecting.plans import PLANS, fusion
from adapterhub.hub.inspecting.quantised import restored
from adapterhub.hub.inspecting.tensors import TensorFile, TensorInfo
from adapterhub.quantised import is_quantised

FORMAT, VERSION = "adapterhub", 2
ADAPTER, FUSION, HEAD, EMBEDDINGS = (
    "adapter_config.json",
    "fusion_config.json",
    "head_config.json",
    "embeddings_config.json",
)
KINDS = {ADAPTER: "adapter", FUSION: "fusion", HEAD: "head", EMBEDDINGS: "embeddings"}
_RUN = re.compile(r"\[([0-9]{1,6}):([0-9]{1,6})\]")
_UNSTACKED = 100_000
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FILE = re.compile(r"(?:adapter|head|fusion|embeddings)\.[0-9a-f]{8}\.safetensors")


def inspect(folder: Folder, name: str, content: Mapping[str, Any]) -> AdapterInfo:
    """What the manifest ``name`` of a folder describes.

    Raises:
        UploadRefusedError: if a file is missing, altered, or does not hold what the manifest says.
    """
    where = folder.at(name)
    version = content.get("format_version")
    if type(version) is not int or not 1 <= version <= VERSION:
        _refuse(where, f"is of the format version {version!r}, and {VERSION} is the newest that this hub knows")
    kind = KINDS[name]
    saved = content.get("base_model")
    fingerprint = None if saved is None else _fingerprint(saved, where)
    config, file, tensors = _part(folder, content, kind, where)
    found = (
        _adapter_parts(config, tensors, file.where) if kind == "adapter" else _others(kind, config, tensors, file.where)
    )
    head, head_file, head_asks = _head(folder, content, where) if "head" in content else (None, None, ())
    files = [file] if head_file is None or head_file is file else [file, head_file]
    method = _method(config, where) if kind == "adapter" else kind
    meta = mapping(content, "meta", where)
    backbone = base_name(meta, "backbone")  # what a person called it; the fingerprint of a folder has its last part
    info = AdapterInfo(
        kind=kind,
        format=FORMAT,
        name=text(content, "name"),
        method=method,
        methods=_members(config) if kind == "adapter" else (method,),
        config=config | ({"adapter_names": list(content.get("adapter_names") or ())} if kind == "fusion" else {}),
        config_hash=config_hash(config),
        parameters=sum(map(math.prod, tensors.values())),
        dtypes=tuple(sorted({tensor.dtype for tensor in file.tensors.values()})),
        size=sum(one.size for one in files),
        base=backbone
        or (fingerprint.name if fingerprint is not None else None)
        or None,  # the former is what one types
        base_revision=None if fingerprint is None else fingerprint.revision,
        fingerprint=fingerprint,
        model_type=None if fingerprint is None else fingerprint.model_type,
        model_class=text(content, "model_class"),
        head=head,
        task=text(meta, "task"),
        dataset=text(meta, "dataset"),
        languages=_languages(meta),
        pairs=meta.get("pairs") is True,
        needs=needs(found) + head_asks,
        files=(where, *(one.where for one in files)),
    )
    declared = (None, None) if fingerprint is None else (fingerprint.hidden_size, fingerprint.layers)
    return with_sizes(info, found, *declared)


def with_sizes(info: AdapterInfo, found: list[Part], hidden: int | None, layers: int | None) -> AdapterInfo:
    """``info`` with rank and reduction factor, the declared layers, and the hidden size as declared or as parts tell.

    Raises:
        UploadRefusedError: if the declared hidden size is not that of the parts.
    """
    told = {part.hidden for part in found} - {None}
    if hidden and told and hidden not in told:
        raise UploadRefusedError(
            f"{info.files[0]} is for a base model with a hidden size of {hidden}, and its tensors are for "
            f"{' and '.join(str(one) for one in sorted(told, key=str))}. Save it again from its own base model."
        )
    only = next(iter(told)) if len(told) == 1 else None
    rank, factor = info.config.get("r"), info.config.get("reduction_factor")
    return replace(
        info,
        hidden_size=hidden or only,
        layers=layers or None,
        rank=rank if type(rank) is int else None,
        reduction_factor=factor if isinstance(factor, int | float) and not isinstance(factor, bool) else None,
    )


def union_parts(config: Mapping[str, Any], tensors: Mapping[str, Shape], where: str) -> list[Part]:
    """The parts of all members of a union: names of tensors begin with the number of theirs."""
    members = config.get("configs")
    if not isinstance(members, list) or not members:
        _refuse(where, "is of a union, and names none of its members (configs)")
    found: list[Part] = []
    for index, member in enumerate(members):
        own = {name.removeprefix(f"{index}."): shape for name, shape in tensors.items() if name.startswith(f"{index}.")}
        found += _adapter_parts(member, own, where)
    if left := [name for name in tensors if name.split(".")[0] not in {str(index) for index in range(len(members))}]:
        _refuse(where, f"holds the tensor {left[0]!r}, which no member of the union claims")
    return found


def unstacked(file: TensorFile) -> dict[str, TensorInfo]:
    """The tensors of a native file: ``layers.[0:12].up`` of ``[12, ...]`` stands for twelve of them.

    Raises:
        UploadRefusedError: if a name and its shape do not go together.
    """
    found: dict[str, TensorInfo] = {}
    for name, tensor in file.tensors.items():
        for own, shape in _unstack(name, tensor.shape, file.where):
            if own in found or len(found) >= _UNSTACKED:
                _refuse(file.where, f"holds the tensor {own!r} twice, or more than {_UNSTACKED:,} in all")
            found[own] = replace(tensor, shape=shape)
    return found


def _unstack(name: str, shape: Shape, where: str) -> Iterator[tuple[str, Shape]]:
    run = _RUN.search(name)
    if run is None:
        yield name, shape
        return
    first, end = int(run[1]), int(run[2])
    if not shape or not 0 < end - first == shape[0] <= _UNSTACKED:
        _refuse(where, f"holds the tensor {name!r} of shape {list(shape)}, which its name belies")
    for index in range(first, end):
        yield f"{name[: run.start()]}{index}{name[run.end() :]}", shape[1:]


def _part(
    folder: Folder, content: Mapping[str, Any], kind: str, where: str
) -> tuple[dict[str, Any], TensorFile, dict[str, Shape]]:
    """Configuration, file and shapes of a part, which is as the manifest says."""
    entry = mapping(content, kind, where)
    if not entry:
        _refuse(where, f"describes no {kind}")
    config, weights = mapping(entry, "config", where), mapping(entry, "weights", where)
    name, digest = text(weights, "file"), text(weights, "sha256")
    if name is None or digest is None or _FILE.fullmatch(name) is None or not digest.startswith(name.split(".")[1]):
        _refuse(
            where, f"names {name!r} as the weights of the {kind}, and not KIND.SHA256.safetensors with their sha256"
        )
    file = folder.tensors(name, digest)
    stored = unstacked(file)
    if is_quantised(weights.get("dtype")):
        tensors = restored(stored, file.where)
    else:
        tensors = {name: tensor.shape for name, tensor in stored.items()}
    counts = {"tensors": len(tensors), "parameters": sum(map(math.prod, tensors.values()))}
    for key, count in counts.items():
        if weights.get(key) != count:
            _refuse(where, f"says that {name} holds {weights[key]!r} {key}, and there are {count:,}")
    return config, file, tensors


def _adapter_parts(config: Mapping[str, Any], tensors: Mapping[str, Shape], where: str) -> list[Part]:
    method = _method(config, where)
    if method == "union":
        return union_parts(config, tensors, where)
    if method not in PLANS:  # of another package: what its tensors are, that alone knows
        return []
    return parts(tensors, PLANS[method](config), where)


def _others(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Shape], where: str) -> list[Part]:
    if kind == "fusion":
        return parts(tensors, fusion(config), where)
    return []


def _head(folder: Folder, content: Mapping[str, Any], where: str) -> tuple[HeadInfo, TensorFile, tuple[Need, ...]]:
    config, file, tensors = _part(folder, content, "head", where)
    kind = text(config, "head_type")
    if kind is None:
        _refuse(where, "has a head without a head_type")
    values = mapping(config, "settings", where) if kind == "static" else config
    shown = text(config, "architecture") or kind if kind == "static" else kind
    head = head_info(shown, values, where)
    return head, file, head_needs(head, tensors, file.where)


def _method(config: Mapping[str, Any], where: str) -> str:
    method = config.get("method") if isinstance(config, Mapping) else None
    if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
        _refuse(where, f"has a configuration that names no method, but {method!r}")
    return method


def _members(config: Mapping[str, Any]) -> tuple[str, ...]:
    if config["method"] != "union":
        return (config["method"],)
    return tuple(method for member in config["configs"] for method in _members(member))


def _fingerprint(saved: Any, where: str) -> Fingerprint:
    if not isinstance(saved, dict):
        _refuse(where, "has a base_model that is no object")
    try:
        found = Fingerprint.from_dict(saved, where)
    except CorruptCheckpointError as error:
        raise UploadRefusedError(f"{error}. Save the adapter again.") from error
    if len(found.probe or ()) > 64:
        _refuse(where, "has a fingerprint with a probe of more than 64 values")
    return found


def _languages(meta: Mapping[str, Any]) -> tuple[str, ...]:
    given = meta.get("language") or ()
    return tuple(str(one) for one in ([given] if isinstance(given, str) else given if isinstance(given, list) else ()))


def _refuse(where: str, why: str) -> NoReturn:
    raise UploadRefusedError(f"{where} {why}. Save the adapter again, and upload all of it.")
