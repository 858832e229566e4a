"""The format of PEFT: paths of modules of the base model without the adapter's name, and a ``peft_type``."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.formats import Folder, base_name, number, text
from adapterhub.hub.inspecting.forms import Form, Part, Plan, Shape, needs, parts, whole
from adapterhub.hub.inspecting.heads import head_needs
from adapterhub.hub.inspecting.info import AdapterInfo, HeadInfo, Need, config_hash
from adapterhub.hub.inspecting.native import with_sizes

FORMAT, CONFIG, WEIGHTS = "peft", "adapter_config.json", "adapter_model.safetensors"
_PREFIXES = ("base_model.model.", "base_model.")
_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# Types that this library reads, and what it calls them. Others are kept as they are: what they compute, PEFT knows.
_METHODS = {
    "LORA": "lora",
    "IA3": "ia3",
    "VERA": "vera",
    "LN_TUNING": "ln_tuning",
    "PREFIX_TUNING": "prefix_tuning",
    "PROMPT_TUNING": "prompt_tuning",
    "P_TUNING": "prompt_tuning",
}
_SPELT = {  # of embeddings, and of an older version
    "lora_embedding_A": "lora_A.weight",
    "lora_embedding_B": "lora_B.weight",
    "lora_magnitude_vector.weight": "lora_magnitude_vector",
}
_TASKS = {
    "SEQ_CLS": "classification",
    "TOKEN_CLS": "tagging",
    "QUESTION_ANS": "question_answering",
}
_EMBEDDINGS = ("embed_tokens", "lm_head", "word_embeddings", "wte", "shared", "embed_in", "embed_out", "tok_embeddings")
Config = Mapping[str, Any]


def inspect(folder: Folder, content: Config) -> AdapterInfo:
    """What the ``adapter_config.json`` of a folder describes.

    Raises:
        UploadRefusedError: if the weights are missing, or are not what it says.
    """
    where = folder.at(CONFIG)
    kind = content.get("peft_type")
    if not isinstance(kind, str) or _TYPE.fullmatch(kind) is None:
        _refuse(where, f"names {kind!r} as its peft_type, which is none")
    file = folder.tensors(WEIGHTS)
    found: list[Part] = []
    others: dict[str, Shape] = {}
    if kind in _PLANS:
        own, others = _split(file.tensors, kind, content, file.where)
        found = parts(own, _PLANS[kind](content), file.where)
        _check_targets(found, content, where)
    head, head_asks = _head(content, others, where) if others else (None, ())
    mine = [tensor for name, tensor in file.tensors.items() if _plain(name) not in others]
    method = _METHODS.get(kind, kind.lower())
    config = {"method": method} | {key: value for key, value in content.items() if value is not None}
    info = AdapterInfo(
        kind="adapter",
        format=FORMAT,
        name=None,
        method=method,
        methods=(method,),
        config=config,
        config_hash=config_hash(config),
        parameters=sum(tensor.parameters for tensor in mine),
        dtypes=tuple(sorted({tensor.dtype for tensor in mine})),
        size=file.size,
        base=base_name(content, "base_model_name_or_path"),
        base_revision=text(content, "revision"),
        model_class=text(content.get("auto_mapping") or {}, "base_model_class"),
        head=head,
        needs=needs(found) + head_asks,
        files=(where, file.where),
    )
    one_tower = kind == "PREFIX_TUNING" and content.get("num_transformer_submodules") in (None, 1)
    return with_sizes(info, found, None, number(content, "num_layers") if one_tower else None)


def _plain(name: str) -> str:
    """The name of a tensor without what all begin with, and with one name for what is called by several."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    for leaf, other in _SPELT.items():
        if name.endswith(f".{leaf}"):
            return name.removesuffix(leaf) + other
    return name


def _split(
    tensors: Mapping[str, Any], kind: str, config: Config, where: str
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The tensors of the adapter, and those of modules that were trained or saved beside it.

    Raises:
        UploadRefusedError: for one that is neither.
    """
    saved = config.get("modules_to_save") or ()
    biases = config.get("bias") in ("all", "lora_only")
    leaves = {leaf for form in _PLANS[kind](config).forms for leaf in (*form.must, *form.may)}
    own: dict[str, Shape] = {}
    others: dict[str, Shape] = {}
    for full, tensor in tensors.items():
        name = _plain(full)
        beside = any(f".{one}." in f".{name}" for one in saved) or name.split(".")[-2:][0] in _EMBEDDINGS
        if any(f".{name}".endswith(f".{leaf}") for leaf in leaves):
            own[name] = tensor.shape
        elif beside or name.endswith(".trainable_tokens_delta") or (biases and name.endswith(".bias")):
            others[name] = tensor.shape
        else:
            _refuse(where, f"holds the tensor {full!r}, which {CONFIG} does not name: it is left over")
    return own, others


def _check_targets(found: Collection[Part], config: Config, where: str) -> None:
    """Pass parts at modules that the configuration names, and names that each have a part.

    Expressions are not tried: one that takes for ever would cost us more than its sender.

    Raises:
        UploadRefusedError: naming what is there without the other.
    """
    targets = config.get("target_modules")
    if not isinstance(targets, list) or config.get("target_parameters"):
        return
    saved = config.get("modules_to_save") or ()  # these are trained whole
    names = [str(one) for one in targets if one not in saved]
    paths = [part.module for part in found if part.module]
    ends = {".".join(path.split(".")[start:]) for path in paths for start in range(path.count(".") + 1)}
    if missing := [name for name in names if not _reaches(name, ends)]:
        _refuse(where, f"names {missing[0]!r} in target_modules, and there are no tensors for it")
    for path in paths:
        if not any(f".{path}".endswith(f".{name}") or f".{name}".endswith(f".{path}") for name in names):
            _refuse(where, f"has tensors for {path!r}, which is none of its target_modules")


def _reaches(name: str, ends: Collection[str]) -> bool:
    """Whether a module ends in that name; a name with the path in the whole model may begin with more."""
    parts = name.split(".")
    return name in ends or any(".".join(parts[start:]) in ends for start in range(1, len(parts) - 1))


def _head(config: Config, others: Mapping[str, Shape], where: str) -> tuple[HeadInfo | None, tuple[Need, ...]]:
    """What PEFT trained beside an adapter as a head: the last of its matrices gives a number for each label."""
    kind = _TASKS.get(str(config.get("task_type")))
    saved = config.get("modules_to_save") or ()
    trained = {name: shape for name, shape in others.items() if any(f".{one}." in f".{name}" for one in saved)}
    matrices = [shape for shape in trained.values() if len(shape) == 2]
    if not matrices:
        return None, ()
    labels = min(shape[0] for shape in matrices)
    head = HeadInfo(kind or "static", None, labels if kind in ("classification", "tagging") else None)
    return head, head_needs(head, trained, where)


def _lora(config: Config) -> Plan:
    several = bool(config.get("target_parameters"))  # of experts, all in one matrix
    patterns = config.get("rank_pattern") or {}
    ranks = {whole(config, "r", 8), *(whole(patterns, name, 1) for name in patterns)}
    must = {"lora_A.weight": "r in | r in x | r in y x", "lora_B.weight": "out r | out r 1 | out r 1 1"}
    must |= {"lora_magnitude_vector": "out | 1 out 1 | 1 out 1 1"} if config.get("use_dora") else {}
    must |= {"lora_B.bias": "out"} if config.get("lora_bias") else {}
    form = Form(must, {"base_layer.bias": "out"}, reads="in", gives="out")
    return Plan((form,), {} if several else {"r": ranks})


def _ia3(config: Config) -> Plan:
    gives = Form({"ia3_l": "out 1 | 1 in | 1 c 1 1"})

    def sides(module: str, sizes: Mapping[str, int]) -> tuple[int | None, int | None]:
        return sizes.get("in"), sizes.get("out")

    return Plan((gives,), sides=sides)


def _vera(config: Config) -> Plan:
    own = Form({"vera_lambda_b": "out", "vera_lambda_d": "R"}, gives="out")
    shared = (Form({"vera_A": "R a"}, at="vera_A"), Form({"vera_B": "b R"}, at="vera_B"))
    drawn = config.get("save_projection", True) is False  # from projection_prng_key
    return Plan((own,) if drawn else (own, *shared), {"R": {whole(config, "r", 256)}})


def _ln_tuning(config: Config) -> Plan:
    must = {"ln_tuning_layers.weight": "n"}
    return Plan((Form(must, {"ln_tuning_layers.bias": "n"}, gives="n"),))


def _prefix_tuning(config: Config) -> Plan:
    """Keys and values of all layers in one matrix."""
    length, widths = whole(config, "num_virtual_tokens", 1), (number(config, "num_layers"), number(config, "token_dim"))
    told = None if None in widths else 2 * (widths[0] or 0) * (widths[1] or 0)
    sizes = {"L": {length}} | ({} if told is None else {"kv": {told}})
    return Plan((Form({"prompt_embeddings": "L kv"}),), sizes)


def _prompt_tuning(config: Config) -> Plan:
    length = whole(config, "num_virtual_tokens", 1)
    towers = number(config, "num_transformer_submodules") or 1
    return Plan((Form({"prompt_embeddings": "L e"}, gives="e"),), {"L": {length, length * towers}})


_PLANS: dict[str, Callable[[Config], Plan]] = {
    "LORA": _lora,
    "IA3": _ia3,
    "VERA": _vera,
    "LN_TUNING": _ln_tuning,
    "PREFIX_TUNING": _prefix_tuning,
    "PROMPT_TUNING": _prompt_tuning,
    "P_TUNING": _prompt_tuning,
}


def _refuse(where: str, why: str) -> NoReturn:
    raise UploadRefusedError(f"{where} {why}. Save the adapter again, and upload all of it.")
