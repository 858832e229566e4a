"""The format of ``adapters`` 1.x and the libraries before it: paths of modules with the adapter's name in them.

``bert.encoder.layer.0.output.adapters.sst-2.adapter_up.weight`` is ``adapter_up.weight`` of the adapter ``sst-2`` at
``bert.encoder.layer.0.output``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting import plans
from adapterhub.hub.inspecting.formats import Folder, base_name, mapping, number, text
from adapterhub.hub.inspecting.forms import Form, Part, Plan, Shape, Sizes, layer_of, needs, parts_of_several, whole
from adapterhub.hub.inspecting.heads import head_info, head_needs
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash
from adapterhub.hub.inspecting.native import with_sizes
from adapterhub.hub.inspecting.tensors import TensorFile

FORMAT = "adapters"
ADAPTER, HEAD, FUSION = "adapter_config.json", "head_config.json", "adapter_fusion_config.json"
WEIGHTS = {ADAPTER: "adapter.safetensors", HEAD: "model_head.safetensors", FUSION: "model_adapter_fusion.safetensors"}
_KINDS = {ADAPTER: "adapter", HEAD: "head", FUSION: "fusion"}
Config = Mapping[str, Any]

# Names of modules that hold adapters by name; of 2020, when there were two kinds, the longer ones.
_BOTTLENECKS = {
    "adapters",
    "attention_adapters",
    "attention_text_lang_adapters",
    "attention_text_task_adapters",
    "language_attention_adapters",
    "layer_adapters",
    "layer_language_adapters",
    "layer_text_lang_adapters",
    "layer_text_task_adapters",
}
# What is kept once for a model: the family that it is of, and the name that stands for it here.
_ONCE = {
    "invertible_adapters": ("bottleneck", "embeddings"),
    "invertible_lang_adapters": ("bottleneck", "embeddings"),
    "prefix_tunings": ("prefix_tuning", "prefix"),
    "prompt_tunings": ("prompt_tuning", "prompt"),
}
_AT_MODULES = {
    **dict.fromkeys(_BOTTLENECKS, ("bottleneck", "")),
    "loras": ("lora", ""),
    "refts": ("reft", ""),
    "prefix_gates": ("prefix_tuning", "gate."),
    "adapter_fusion_layer": ("fusion", ""),
    "heads": ("head", ""),
}
_KEPT_ONCE = ("embeddings.", "shared.")
_FAMILIES = {None: "bottleneck", "mtl_lora": "lora"}
_READ_HIDDEN = {f"{letter}{end}" for letter in "qkv" for end in ("", "_proj", "_lin")}
_READ_HIDDEN |= {"query", "key", "value", "c_attn", "in_proj"}
_DOWN_OR_UP = re.compile(r"(down|up)\.(W.*)")


class Named(NamedTuple):
    """A tensor: the family of methods that it is of, and its name with what stands for the module first."""

    family: str
    name: str


def inspect(folder: Folder, name: str, content: Mapping[str, Any]) -> AdapterInfo:
    """What the configuration ``name`` of a folder describes.

    Raises:
        UploadRefusedError: if a file is missing, or does not hold what the configuration says.
    """
    where = folder.at(name)
    kind = _KINDS[name]
    config = mapping(content, "config", where)
    file = folder.tensors(WEIGHTS[name])
    method = method_of(config, where) if kind == "adapter" else kind
    found = [] if kind == "head" else _parts(config, file, content, kind)
    beside = folder.config(HEAD) if kind == "adapter" else content if kind == "head" else None
    head_file = folder.tensors(WEIGHTS[HEAD]) if beside is not None else None
    head, head_asks = (None, ()) if beside is None or head_file is None else _head(beside, head_file, folder.at(HEAD))
    files = [file] if head_file is None or kind == "head" else [file, head_file]
    own: dict[str, Any] = {"method": method} if kind == "adapter" else {}
    own |= {key: value for key, value in config.items() if key != "architecture" or method == "union"}
    own |= {"adapter_names": list(content.get("adapter_names") or ())} if kind == "fusion" else {}
    info = AdapterInfo(
        kind=kind,
        format=FORMAT,
        name=text(content, "name"),
        method=method,
        methods=_members(config, where) if method == "union" else (method,),
        config=own,
        config_hash=config_hash(own),
        parameters=sum(tensor.parameters for tensor in file.tensors.values()),
        dtypes=tuple(sorted({tensor.dtype for tensor in file.tensors.values()})),
        size=sum(one.size for one in files),
        base=base_name(content, "model_name"),
        model_type=text(content, "model_type"),
        model_class=text(content, "model_class"),
        head=head,
        needs=needs(found) + head_asks,
        files=tuple(dict.fromkeys((where, *([folder.at(HEAD)] if head_file else []), *(one.where for one in files)))),
    )
    return with_sizes(info, found, number(content, "hidden_size"), None)


def method_of(config: Config, where: str) -> str:
    """The name of a configuration's method in the words of this library.

    Raises:
        UploadRefusedError: for an architecture that is none.
    """
    architecture = config.get("architecture")
    if architecture == "lora" and config.get("composition_mode") == "scale":
        return "ia3"
    if architecture == "lora" and config.get("init_weights") == "vera":
        return "vera"
    if architecture is not None and architecture != "union" and architecture not in _PLANS:
        _refuse(where, f"is of the architecture {architecture!r}, which adapters does not have")
    return architecture or "bottleneck"


def named(name: str, adapter: str | None) -> Named | None:
    """What a tensor is, by its name in a file; None for one that is of no adapter, fusion or head."""
    names = name.split(".")
    holders = [
        index
        for index in range(len(names) - 2)
        if (names[index] in _AT_MODULES or names[index] in _ONCE or names[index] == "shared_parameters")
        and not (names[index] == "attention_adapters" and names[index + 1] == "adapters")
    ]
    if not holders:
        return None
    at = next((index for index in holders if names[index + 1] == adapter), holders[-1])
    before, leaf = ".".join(names[:at]), ".".join(names[at + 2 :])
    if names[at] == "shared_parameters":
        return _shared(before, leaf)
    if names[at] in _ONCE:
        family, stem = _ONCE[names[at]]
        return Named(family, f"{stem}.{leaf}")
    family, inner = _AT_MODULES[names[at]]
    return Named(family, f"{before}.{inner}{leaf}" if before else f"{inner}{leaf}")


def _shared(before: str, leaf: str) -> Named:
    """Of a Compacter and a VeRA it is kept once, of an MTL-LoRA at each weight."""
    if not leaf.startswith("lora_"):
        return Named("bottleneck", f"shared.{leaf}")
    return Named("lora", f"{before}.{leaf}" if layer_of(before) is not None else f"shared.{leaf}")


def _parts(config: Config, file: TensorFile, content: Mapping[str, Any], kind: str) -> list[Part]:
    """The parts of an adapter or a fusion, of each member of a union.

    Raises:
        UploadRefusedError: if a tensor is left over, missing, or of another shape than it should be.
    """
    families: dict[str, dict[str, Shape]] = {}
    for name, tensor in file.tensors.items():
        known = named(name, text(content, "name"))
        if known is None:
            _refuse(file.where, f"holds the tensor {name!r}, which is of no adapter: it is left over")
        own = families.setdefault(known.family, {})
        if own.setdefault(known.name, tensor.shape) != tensor.shape:
            _refuse(file.where, f"holds {known.name!r} twice, with other shapes")
    if kind == "fusion":
        members: list[tuple[str, Config]] = [("fusion", config)]
    elif config.get("architecture") == "union":
        members = [(_family(one), one) for one in config.get("configs") or ()]
    else:
        members = [(_family(config), config)]
    if left := families.keys() - {family for family, _ in members}:
        name = next(iter(families[min(left)]))
        _refuse(file.where, f"holds the tensor {name!r} of {min(left)}, which its configuration does not name")
    return _claimed(members, families, content, file.where)


def _claimed(
    members: Sequence[tuple[str, Config]],
    families: Mapping[str, Mapping[str, Shape]],
    content: Mapping[str, Any],
    where: str,
) -> list[Part]:
    """The parts of configurations, of which several may be of one family, each at its own places."""
    found: list[Part] = []
    for family in dict.fromkeys(family for family, _ in members):
        own = families.get(family, {})
        here = [config for of, config in members if of == family]
        found += parts_of_several(own, [_plan(config, own, content, family) for config in here], where)
        if family == "bottleneck" and not any(config.get("leave_out") for config in here):
            _check_layers(own, where)
    return found


def _plan(config: Config, own: Mapping[str, Shape], content: Mapping[str, Any], family: str) -> Plan:
    if family == "fusion":
        return plans.fusion(config)
    if _family(config) == "bottleneck":
        return _bottleneck(_newer(config, own, content))
    if config.get("composition_mode") == "scale":
        return _ia3(config)
    return _vera(config) if config.get("init_weights") == "vera" else _PLANS[config["architecture"]](config)


def _family(config: Config) -> str:
    architecture = config.get("architecture")
    return _FAMILIES.get(architecture) or str(architecture)


def _members(config: Config, where: str) -> tuple[str, ...]:
    members = config.get("configs")
    if not isinstance(members, list) or not all(isinstance(one, dict) for one in members) or not members:
        _refuse(where, "is of a union, and its configs are no list of configurations")
    return tuple(method_of(one, where) for one in members)


def _newer(config: Config, own: Mapping[str, Shape], content: Mapping[str, Any]) -> Config:
    """A configuration of a bottleneck with what 2020 said of invertible adapters as it is said since."""
    of_2020 = config.get("invertible_adapter")
    found = dict(config) | ({"inv_adapter": of_2020["block_type"]} if of_2020 else {})
    older = "version" not in content or content.get("type") == "text_task" or config.get("type") == "text_task"
    if older and not any(name.startswith("embeddings.") for name in own):
        found["inv_adapter"] = None  # a task adapter of that time may name one that it has not
    return found


def _check_layers(own: Mapping[str, Shape], where: str) -> None:
    """Pass bottlenecks in all layers: the numbers of each tower have no gap.

    Raises:
        UploadRefusedError: naming the first layer that has none.
    """
    towers: dict[str, set[int]] = {}
    for name in own:
        layer = layer_of(name)
        if layer is not None and not name.startswith(_KEPT_ONCE):
            towers.setdefault(name.split(f".{layer}.")[0], set()).add(layer)
    for tower, layers in towers.items():
        if missing := set(range(max(layers))) - layers:
            _refuse(where, f"holds no tensor of layer {min(missing)} of {tower}, and its configuration leaves out none")


def _bottleneck(config: Config) -> Plan:
    plan = plans.bottleneck(config)
    return replace(plan, forms=tuple(_renamed(form, config) for form in plan.forms))


def _renamed(form: Form, config: Config) -> Form:
    if form.at == "shared":
        return replace(form, must={_DOWN_OR_UP.sub(_inside_out, leaf): dims for leaf, dims in form.must.items()})
    if form.at:
        return form
    down = f"adapter_down.{1 if config.get('ln_before') else 0}"
    must = {}
    for leaf, dims in form.must.items():
        name, _, rest = leaf.partition(".")
        rest = "b" if rest == "bias" and config.get("phm_layer") and name.endswith("_proj") else rest
        stem = {"down_proj": down, "up_proj": "adapter_up"}.get(name) or {
            "norm_before": "adapter_norm_before",
            "norm_after": "adapter_norm_after",
        }.get(name, name)
        must[f"{stem}.{rest}" if rest else stem] = dims
        if name == "norm_before":  # kept under two names
            must[f"adapter_down.0.{rest}"] = dims
    return replace(form, must=must)


def _inside_out(match: re.Match[str]) -> str:
    """``down.W_left`` as ``W_down_left``."""
    which, leaf = match.groups()
    return leaf.replace("W", f"W_{which}", 1)


def _lora(config: Config) -> Plan:
    must = {"lora_B": "out r", "lora_A": "r*m in"}  # of a fused weight, A of each part, one above the other
    must |= {"m.weight": "out 1"} if config.get("use_dora") else {}
    must |= {"gate.weight": "g in", "gate.bias": "g"} if config.get("use_gating") else {}
    return Plan((Form(must, reads="in", gives="out"),), {"r": {whole(config, "r", 8)}}, width=_width)


def _width(module: str, sizes: Sizes) -> int | None:
    """The hidden size, which queries, keys and values read in all models that ``adapters`` knows."""
    return sizes["in"] if module.rpartition(".")[2] in _READ_HIDDEN else None


def _ia3(config: Config) -> Plan:
    gate = {"gate.weight": "g in", "gate.bias": "g"} if config.get("use_gating") else {}
    return Plan((Form({"lora_B": "out 1"} | gate, {"lora_A": "1 in"}, gives="out"),))


def _vera(config: Config) -> Plan:
    must = {"vera_B": "out out", "vera_D": "R R"} | ({"m.weight": "out 1"} if config.get("use_dora") else {})
    shared = Form({"lora_A": "R a", "lora_B": "b R"}, at="shared")
    return Plan((shared, Form(must, gives="out")), {"R": {whole(config, "r", 8)}})


def _mtl_lora(config: Config) -> Plan:
    diagonal = config.get("task_specific_matrix_type", "singular_values") == "singular_values"
    matrix = {"task_specific.values": "r*m" if diagonal else "r*m r"}
    must = {"weights": "n*m", "lora_B": "n*m out r", "lora_A": "r*m in"} | matrix
    sizes = {"r": {whole(config, "r", 8)}, "n": {whole(config, "n_up_projection", 1)}}
    return Plan((Form(must, reads="in"),), sizes)  # of a fused weight, ``out`` is that of a part


def _prefix_tuning(config: Config) -> Plan:
    sizes = {"L": {whole(config, "prefix_length", 30)}}
    gates = (Form({"gate.weight": "g w", "gate.bias": "g"}, hidden="w"),) if config.get("use_gating") else ()
    if config.get("flat"):
        return Plan((*gates, Form({"control_trans": "n"}, at="prefix", gives="n")), sizes)
    net = {
        "wte.weight": "L w",
        "control_trans.0.weight": "B w",
        "control_trans.0.bias": "B",
        "control_trans.2.weight": "kv B",
        "control_trans.2.bias": "kv",
    }
    own = Form(net, at="prefix", gives="kv", hidden="w")
    return Plan((*gates, own), sizes | {"B": {whole(config, "bottleneck_size", 512)}})


def _reft(config: Config) -> Plan:
    projection = {"projection.weight": "r h"}
    if config.get("orthogonality", True):
        stem = "projection.parametrizations.weight"
        projection = {f"{stem}.original": "r h", f"{stem}.0.base": "h h"}
    must = {"learned_source.weight": "r h", "learned_source.bias": "r"} | projection
    return Plan((Form(must, reads="h", gives="h", hidden="h"),), {"r": {whole(config, "r", 1)}})


_PLANS: dict[str, Callable[[Config], Plan]] = {
    "lora": _lora,
    "mtl_lora": _mtl_lora,
    "prefix_tuning": _prefix_tuning,
    "prompt_tuning": plans.prompt_tuning,
    "reft": _reft,
}


def _head(content: Mapping[str, Any], file: TensorFile, where: str) -> tuple[HeadInfo, tuple[Need, ...]]:
    """The head that a configuration describes: one of ``adapters``, or that of a class of transformers."""
    config = content.get("config")
    values = content if config is None else mapping(content, "config", where)
    kind = text(values, "model_class" if config is None else "head_type")
    if kind is None:
        _refuse(where, "describes a head without saying of which type (head_type) or class (model_class) it is")
    head = head_info(kind, values, where)
    shapes = {}
    for name, tensor in file.tensors.items():
        known = named(name, text(content, "name"))
        shapes[known.name if known is not None and known.family == "head" else name] = tensor.shape
    return head, head_needs(head, shapes, file.where)


def _refuse(where: str, why: str) -> NoReturn:
    raise UploadRefusedError(f"{where} {why}. Save the adapter again, and upload all of it.")
