"""Checkpoints of ``adapters`` and of the libraries before it, read: adapters, heads and fusions, of every version.

A tensor's name there holds the path of a module of the base model and the name of the adapter:
``bert.encoder.layer.0.output.adapters.sst-2.adapter_down.0.weight``. The site that it belongs to is found by that path.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub.checkpoints.tensors import decode
from adapterhub.errors import CheckpointError, CheckpointNotFoundError, CorruptCheckpointError, TensorMismatchError
from adapterhub.methods import AdapterConfig, Place
from adapterhub.methods.bottleneck import BottleneckConfig
from adapterhub.methods.ia3 import IA3Config
from adapterhub.methods.lora import LoRAConfig
from adapterhub.methods.prefix import PrefixTuningConfig, prefix_location
from adapterhub.methods.prompt import PromptTuningConfig
from adapterhub.methods.reft import ReftConfig
from adapterhub.methods.union import ConfigUnion
from adapterhub.sites import Sites, Sublayer

logger = logging.getLogger(__name__)

ADAPTER, HEAD, FUSION = "adapter_config.json", "head_config.json", "adapter_fusion_config.json"
_WEIGHTS = {
    ADAPTER: ("adapter.safetensors", "pytorch_adapter.bin"),
    HEAD: ("model_head.safetensors", "pytorch_model_head.bin"),
    FUSION: ("model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin"),
}
# Of 2020, when there were two kinds of adapter (and, before that, other names for them).
_FIRST_NAMES = re.compile(
    r"\.(?:(?:attention|layer)_text_(?:task|lang)_adapters|layer_adapters|layer_language_adapters|"
    r"language_attention_adapters|attention_adapters(?!\.adapters\.))\."
)
_BOTTLENECK = re.compile(r"(?P<owner>.+?)\.adapters\.[^.]+\.(?P<leaf>.+)")
_INVERTIBLE = re.compile(r"(?:.+\.)?invertible(?:_lang)?_adapters\.[^.]+\.(?P<leaf>.+)")
_SHARED = re.compile(r"(?:.+\.)?shared_parameters\.[^.]+\.(?P<leaf>.+)")
_SHARED_BLOCK = re.compile(r"^W_(down|up)")
_LORA = re.compile(r"(?P<owner>.+?)\.loras\.[^.]+\.(?P<leaf>.+)")
_REFT = re.compile(r"(?P<owner>.+?)\.reft_layer\.refts\.[^.]+\.(?P<leaf>.+)")
_PREFIX = re.compile(r"(?:.+\.)?prefix_tuning(?:\.pool)?\.prefix_tunings\.[^.]+\.(?P<owner>[^.]+)\.(?P<leaf>.+)")
_PREFIX_GATE = re.compile(r"(?P<owner>.+?)\.prefix_tuning\.prefix_gates\.[^.]+\.(?P<leaf>.+)")
_PROMPT = re.compile(r"(?:.+\.)?prompt_tuning\.prompt_tunings\.[^.]+\.(?P<leaf>.+)")
_OWN = {  # which tensors of a union are of which of its methods
    None: re.compile(r"(?:.+\.)?(?:adapters|invertible_adapters|shared_parameters)\..+"),
    "lora": re.compile(r".+\.loras\..+"),
    "reft": _REFT,
    "prefix_tuning": re.compile(r"(?:.+\.)?prefix_tuning(?:\.pool)?\.prefix_(?:tunings|gates)\..+"),
    "prompt_tuning": _PROMPT,
}
_FUSED = re.compile(r"(?P<owner>.+?)\.adapter_fusion_layer\.[^.]+\.(?P<leaf>.+)")
_KINDS = {
    "attention_adapters": "attention",
    "cross_attention_adapters": "cross_attention",
    "output_adapters": "feed_forward",
}
_LEAVES = (
    (re.compile(r"adapter_down\.\d\."), "down_proj."),
    (re.compile(r"adapter_up\."), "up_proj."),
    (re.compile(r"adapter_norm_(before|after)\."), r"norm_\1."),
)
_OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
# Entries of 2020 that have other names since, or no meaning.
_UNUSED = ("invertible_adapter", "type")
_SHARED_WITH_LORA = ("selfattn_lora", "intermediate_lora", "output_lora", "leave_out", "r", "alpha", "dropout")
_RELATIVE = ("t5", "mt5")
_LANGUAGE_HEADS = ("masked_lm", "causal_lm", "seq2seq_lm")
_HEADS = ("classification", "multilabel_classification", "tagging", "multiple_choice", "question_answering")


@dataclass(frozen=True)
class AdaptersCheckpoint:
    """One file of weights, and what is said of it, from a folder of ``adapters``.

    Attributes:
        folder: where it is.
        content: its JSON file.
        tensors: by their names there.
    """

    folder: Path
    content: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """Of the adapter, head or fusion."""
        return str(self.content.get("name") or self.folder.resolve().name.replace(".", "-"))

    def adapter(self, sites: Sites, places: Sequence[Place]) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """The configuration that acts as this adapter does, and its tensors by their names here.

        Raises:
            CheckpointError: for a method, or an option, of which this library has no equal.
            TensorMismatchError: for a tensor that belongs to no place in this model.
        """
        given = dict(self.content.get("config") or {})
        if given.get("architecture") != "union":
            return self._part(given, self.tensors, sites, places)
        configs: list[AdapterConfig] = []
        tensors: dict[str, Tensor] = {}
        for index, one in enumerate(given["configs"]):
            pattern = _OWN.get(one.get("architecture"))
            own = {key: tensor for key, tensor in self.tensors.items() if pattern and pattern.fullmatch(key)}
            config, named = self._part(dict(one), own, sites, places)
            configs.append(config)
            tensors |= {f"{index}.{name}": tensor for name, tensor in named.items()}
        return ConfigUnion(*configs), tensors

    def _part(
        self, given: dict[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """One method's configuration and tensors: all of an adapter, or those of a member of a union."""
        kind = given.pop("architecture", None)
        if kind is None:
            return self._bottleneck(given, own, sites, places)
        if kind == "lora":
            return self._lora(given, own, sites, places)
        if kind == "prefix_tuning":
            return self._prefix(given, own, sites, places)
        if kind == "reft":
            return self._reft(given, own, sites, places)
        if kind == "prompt_tuning":
            return self._prompt(given, own)
        raise CheckpointError(f"{self.folder} is an adapter of the method {kind!r}, which cannot be read yet")

    def fusion(self, sites: Sites, places: Sequence[Place]) -> tuple[dict[str, Any], list[str], dict[str, Tensor]]:
        """The fields of a fusion's configuration, the names of its adapters, and its tensors by their names here.

        Raises:
            TensorMismatchError: for a tensor that belongs to no place in this model.
        """
        paths = _Paths(sites, places, [_owner(_FUSED, key) for key in self.tensors], self.folder)
        tensors = {}
        for key, tensor in self.tensors.items():
            owner, leaf = _parted(_FUSED, key, self.folder)
            tensors[f"{paths.sublayer(owner).name}.{leaf}"] = tensor
        config = {**self.content["config"], "value_initialized": bool(self.content["config"].get("value_initialized"))}
        names = self.content.get("adapter_names") or self.name.split(",")
        return config, list(names), tensors

    def head(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The configuration of a flexible head, and its tensors by their names here.

        Raises:
            CheckpointError: for a head of another kind.
        """
        given = dict(self.content.get("config") or {})
        kind = given.get("head_type")
        if kind in _LANGUAGE_HEADS:
            return self._language_head(given)
        if kind not in _HEADS:
            what = f"the head type {kind!r}" if kind else f"the head of {self.content.get('model_class')}"
            raise CheckpointError(f"{self.folder} has {what}, which cannot be read; pass with_head=False")
        config = {"head_type": kind, "dropout": given.get("dropout_prob")}
        names = ("num_labels", "num_choices", "layers", "activation_function", "use_pooler", "bias")
        config |= {name: given[name] for name in names if given.get(name) is not None}
        labels = given.get("label2id") or {}
        if labels:
            config["id2label"] = {int(index): str(label) for label, index in labels.items()}
        tensors = {re.sub(r"^heads\.[^.]+\.", "layers.", key): tensor for key, tensor in self.tensors.items()}
        return config, tensors

    def _language_head(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A head over the input embeddings, of which there is a copy in the file: the last of its matrices."""
        names = ("head_type", "layers", "activation_function", "layer_norm", "bias")
        config = {name: given[name] for name in names if given.get(name) is not None}
        indices = [int(key.split(".")[2]) for key in self.tensors]
        last = f".{max(indices)}."
        tensors = {}
        for key, tensor in self.tensors.items():
            if last not in key:
                tensors[re.sub(r"^heads\.[^.]+\.", "layers.", key)] = tensor
            elif key.endswith(".bias"):
                tensors["bias"] = tensor
        return config | {"bias": "bias" in tensors}, tensors

    def _bottleneck(
        self, given: Mapping[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        config = self._bottleneck_config(given)
        elsewhere = (_INVERTIBLE, _SHARED)
        owners = [_owner(_BOTTLENECK, key) for key in own if not any(one.fullmatch(key) for one in elsewhere)]
        paths = _Paths(sites, places, owners, self.folder)
        tensors = {}
        for key, tensor in own.items():
            if (invertible := _INVERTIBLE.fullmatch(key)) is not None:
                tensors[f"embeddings.{invertible['leaf']}"] = tensor
                continue
            if (common := _SHARED.fullmatch(key)) is not None:
                tensors["shared." + _SHARED_BLOCK.sub(r"\1.W", common["leaf"])] = tensor
                continue
            owner, leaf = _parted(_BOTTLENECK, key, self.folder)
            if config.ln_before and leaf.startswith("adapter_down.0."):
                continue  # the norm, which is there under its own name as well
            name = f"{paths.sublayer(owner).name}.{_leaf(leaf)}"
            tensors[re.sub(r"_proj\.b$", "_proj.bias", name)] = tensor
        return config, tensors

    def _ia3(
        self, given: Mapping[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """Vectors by which outputs are multiplied, those into the feed-forward before the non-linearity."""
        usual = given.get("intermediate_lora") and set(given.get("attn_matrices", ())) == {"k", "v"}
        if not usual or given.get("output_lora") or given.get("use_gating") or given.get("alpha", 1) != 1:
            raise CheckpointError(f"{self.folder} is an (IA)³ with options that have no equal here")
        found = _Paths(sites, places, [_owner(_LORA, key) for key in own], self.folder)
        tensors: dict[str, Tensor] = {}
        for key, tensor in own.items():
            owner, leaf = _parted(_LORA, key, self.folder)
            if leaf != "lora_B":
                raise TensorMismatchError(f"{self.folder} holds {key}, which belongs to no (IA)³")
            chosen = found.weights(owner, ("k", "v"))
            for place, part in zip(chosen, tensor.flatten().chunk(len(chosen)), strict=True):
                tensors[f"{place.name}.scale"] = part
        return IA3Config(leave_out=tuple(given.get("leave_out") or ()), feed_forward="output"), tensors

    def _reft(
        self, given: Mapping[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """Its rows are made orthonormal by torch there, and kept as they are here."""
        names = {field.name for field in fields(ReftConfig)}
        config = ReftConfig.from_dict({name: value for name, value in given.items() if name in names})
        if not config.orthogonality and "subtract_projection" not in given:
            logger.warning(
                "%s: adapters does not save whether it is a NoReFT or a DiReFT; taken for NoReFT", self.folder
            )
        layers = {layer.path: layer for layer in sites.layers}
        # There are two maps there also where one of them has no positions.
        moved = not config.prefix_positions and not config.tied_weights
        unused = "units.0." if moved else "units.1." if not config.suffix_positions else "-"
        tensors: dict[str, Tensor] = {}
        for key, tensor in own.items():
            owner, leaf = _parted(_REFT, key, self.folder)
            found = [layer for path, layer in layers.items() if _same_end(path, owner)]
            if len(found) != 1:
                raise TensorMismatchError(f"{self.folder} adapts {owner}, which this model has not")
            if leaf.startswith(unused):
                continue
            tensors[f"{found[0].name}.output.{leaf.replace('units.1.', 'units.0.') if moved else leaf}"] = tensor
        for name in [name for name in tensors if name.endswith(".projection.parametrizations.weight.original")]:
            stem = name.removesuffix("parametrizations.weight.original")
            base = tensors.pop(f"{stem}parametrizations.weight.0.base", None)
            tensors[stem.removesuffix(".")] = _orthonormal(tensors.pop(name), base)
        return config, {name.replace(".projection.weight", ".projection"): tensor for name, tensor in tensors.items()}

    def _prefix(
        self, given: Mapping[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """The last matrix, or the flat prefix, holds keys and values of one layer after another."""
        if self.content.get("model_type") in _RELATIVE:
            raise CheckpointError(
                f"{self.folder} is a prefix for {self.content['model_type']}: adapters trains these with the distances "
                "between tokens of the text moved by the length of the prefix, which this library does not do"
            )
        config = PrefixTuningConfig.from_dict(given)
        chosen = [place for place in places if config.acts_at(place, places)]
        owners = [_owner(_PREFIX_GATE, key) for key in own if _PREFIX_GATE.fullmatch(key)]
        paths = _Paths(sites, places, owners, self.folder)
        tensors: dict[str, Tensor] = {}
        for key, tensor in own.items():
            if _PREFIX_GATE.fullmatch(key):
                owner, leaf = _parted(_PREFIX_GATE, key, self.folder)
                tensors[f"{paths.sublayer(owner, inside=True).name}.prefix.gate.{leaf}"] = tensor
                continue
            where, leaf = _parted(_PREFIX, key, self.folder)
            here = [place for place in chosen if _prefix_location(place) == where]
            location = prefix_location(here[0]) if here else where
            if leaf == "control_trans":
                flat = tensor.view(config.prefix_length, -1).chunk(max(1, len(here)), dim=1)
                tensors |= {f"{place.name}.prefix": part for place, part in zip(here, flat, strict=True)}
            elif leaf.startswith("control_trans.2."):
                rows = tensor.chunk(max(1, len(here)))
                name = leaf.removeprefix("control_trans.2.")
                tensors |= {f"{place.name}.linear.{name}": part for place, part in zip(here, rows, strict=True)}
            else:
                tensors[f"shared.{location}.{leaf.replace('control_trans.0.', 'linear.')}"] = tensor
        return config, tensors

    def _prompt(self, given: Mapping[str, Any], own: Mapping[str, Tensor]) -> tuple[AdapterConfig, dict[str, Tensor]]:
        """It comes in where tokens and positions are embedded there; what it began as is of no use any more."""
        here = {"prompt_init": "random_uniform", "insert_at": "embedding_output"}
        config = PromptTuningConfig.from_dict({**given, **here})
        tensors = {}
        for key, tensor in own.items():
            match = _PROMPT.fullmatch(key)
            if match is None:
                raise TensorMismatchError(f"{self.folder} holds {key}, which belongs to no prompt")
            tensors[f"prompt.{match['leaf']}"] = tensor
        return config, tensors

    def _bottleneck_config(self, given: Mapping[str, Any]) -> BottleneckConfig:
        here = {field.name for field in fields(BottleneckConfig)}
        if strange := [name for name in given if name not in here and name not in _UNUSED]:
            raise CheckpointError(f"{self.folder} has options that are not known: {', '.join(strange)}")
        options = {name: value for name, value in given.items() if name in here and value is not None}
        if of_2020 := given.get("invertible_adapter"):
            options["inv_adapter"] = of_2020["block_type"]
            options["inv_adapter_reduction_factor"] = of_2020["reduction_factor"]
        if not any(
            _INVERTIBLE.fullmatch(key) for key in self.tensors
        ):  # task adapters of 2020 may name one they have not
            options.pop("inv_adapter", None)
        if "version" not in self.content:
            options["non_linearity"] = _OLD_ACTIVATIONS.get(options["non_linearity"], options["non_linearity"])
        return BottleneckConfig.from_dict(options)

    def _lora(
        self, given: dict[str, Any], own: Mapping[str, Tensor], sites: Sites, places: Sequence[Place]
    ) -> tuple[AdapterConfig, dict[str, Tensor]]:
        if given.get("composition_mode") == "scale":
            return self._ia3(given, own, sites, places)
        odd = [name for name in ("vera_d", "vera_b") if given.get(name) is not None]
        if given.get("composition_mode", "add") != "add" or odd:
            raise CheckpointError(
                f"{self.folder} is an adapter of the LoRA kind with "
                f"{', '.join(odd) or 'composition_mode=' + repr(given['composition_mode'])}, which cannot be read yet"
            )
        if given.get("use_dora"):
            raise CheckpointError(
                f"{self.folder} is a DoRA: adapters rescales the bias too, and measures the length of another "
                "weight than it uses, which this library does not do"
            )
        options = {name: given[name] for name in _SHARED_WITH_LORA if given.get(name) is not None}
        options["use_gating"] = bool(given.get("use_gating"))
        if _older(self.content.get("version"), (1, 1)) and options["alpha"] != options["r"]:
            logger.warning(
                "%s: this version of adapters scaled by 1 whatever alpha said; so does this one", self.folder
            )
            options["alpha"] = options["r"]
        if options["use_gating"]:  # a gate takes the place of the scaling there
            options["alpha"] = options["r"]
        matrices = tuple(role for role in given.get("attn_matrices", ("q", "v")) if role in "qkv")
        found = _Paths(sites, places, [_owner(_LORA, key) for key in own], self.folder)
        tensors: dict[str, Tensor] = {}
        targets: dict[str, None] = {}
        for key, tensor in own.items():
            owner, leaf = _parted(_LORA, key, self.folder)
            chosen = found.weights(owner, matrices)
            parts = tensor.chunk(len(chosen)) if leaf in ("lora_A", "lora_B") else [tensor] * len(chosen)
            for place, part in zip(chosen, parts, strict=True):
                tensors[f"{place.name}.{leaf}"] = part
                targets[place.role if not place.whole else place.path] = None
        config = LoRAConfig(**options, attn_matrices=matrices or ("q",))
        sited = {place.name for place in places if config.acts_at(place)}
        if sited != {key.rpartition(".lora_")[0] for key in tensors if ".lora_" in key}:
            config = config.replace(target_modules=tuple(targets))  # roles mean other modules there than here
        return config, tensors


def read_adapters(folder: Path, manifest: str, allow_pickle: bool) -> AdaptersCheckpoint | None:
    """Read what ``adapters`` wrote; None if the folder holds nothing of the kind ``manifest`` names.

    Raises:
        CheckpointNotFoundError: if there are no weights, or only pickled ones and ``allow_pickle`` is False.
        CorruptCheckpointError: if the weights are truncated or altered.
    """
    try:
        content = json.loads((folder / manifest).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "format" in content or "peft_type" in content or "model_type" not in content:
        return None
    safe, pickled = (folder / name for name in _WEIGHTS[manifest])
    if safe.exists():
        return AdaptersCheckpoint(folder, content, _renamed(decode(safe.read_bytes(), str(safe))))
    if not pickled.exists():
        raise CheckpointNotFoundError(f"{folder} holds neither {safe.name} nor {pickled.name}")
    if not allow_pickle:
        raise CheckpointNotFoundError(
            f"{folder} holds its weights as a pickle ({pickled.name}) alone. Pass allow_pickle=True to read the "
            "tensors in it, and nothing else."
        )
    return AdaptersCheckpoint(folder, content, _renamed(_unpickled(pickled)))


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds for what is no pickle of tensors
        raise CorruptCheckpointError(f"{path} could not be read as tensors: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise CorruptCheckpointError(f"{path} holds something other than named tensors")
    bad = [key for key, value in values.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise CorruptCheckpointError(f"{path}: values that are not finite in {', '.join(bad[:5])}")
    return values


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_FIRST_NAMES.sub(".adapters.", key): tensor for key, tensor in tensors.items()}


class _Paths:
    """Finds the sites that belong to the paths of modules in a checkpoint.

    Paths there may begin with the name of the base model in a class with a head, as paths here may.
    """

    def __init__(self, sites: Sites, places: Sequence[Place], owners: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.sublayers = list(sites.sublayers)
        self.layers = {layer.path: layer for layer in sites.layers}
        self.places = [place for place in places if place.weight is not None]
        here = {path.partition(".")[0] + "." for path in (*self.layers, *(place.path for place in self.places))}
        there = {owner.partition(".")[0] + "." for owner in owners}
        changes: list[Callable[[str], str]] = [str]
        changes += [lambda path, first=first: path.removeprefix(first) for first in sorted(there)]  # type: ignore[misc]
        changes += [lambda path, first=first: first + path for first in sorted(here)]  # type: ignore[misc]
        changes += [
            lambda path, first=first, other=other: first + path.removeprefix(other)  # type: ignore[misc]
            for first in sorted(here)
            for other in sorted(there)
        ]
        self.change = max(changes, key=lambda change: sum(self._known(change(owner)) for owner in set(owners)))

    def sublayer(self, owner: str, inside: bool = False) -> Sublayer:
        """The sublayer that a path stands for, or lies ``inside`` of.

        Raises:
            TensorMismatchError: if it is none, or not one, of this model's.
        """
        found = self._sublayers(self.change(owner), inside)
        if len(found) != 1:
            raise TensorMismatchError(f"{self.folder} adapts {owner}, which this model has not: {self._hint()}")
        return found[0]

    def weights(self, owner: str, roles: Sequence[str]) -> list[Place]:
        """The places of the weight at a path: the one, or those of the ``roles`` that stand in a fused one.

        Raises:
            TensorMismatchError: if there is none.
        """
        path = self.change(owner)
        here = [place for place in self.places if place.path == path]
        parts = [place for role in roles for place in here if not place.whole and place.role == role]
        found = parts or [place for place in here if place.whole]
        if not found:
            raise TensorMismatchError(f"{self.folder} adapts {owner}, which this model has not: {self._hint()}")
        return found

    def _known(self, path: str) -> bool:
        inside = len(self._sublayers(path)) == 1 or len(self._sublayers(path, inside=True)) == 1
        return inside or any(place.path == path for place in self.places)

    def _sublayers(self, path: str, inside: bool = False) -> list[Sublayer]:
        if inside:
            return [sub for sub in self.sublayers if sub.attention is not None and sub.attention.path == path]
        layer, _, last = path.rpartition(".")
        if last in _KINDS:
            found = self.layers.get(layer)
            return [] if found is None else [sub for sub in found.sublayers if sub.kind == _KINDS[last]]
        return [sub for sub in self.sublayers if sub.output_at == path or sub.output_at.startswith(f"{path}.")]

    def _hint(self) -> str:
        return "load the base model that it was made for"


def _prefix_location(place: Place) -> str:
    """What ``adapters`` calls the prefixes of a place."""
    if place.role == "cross_keys_values":
        return "cross_prefix"
    return "encoder_prefix" if place.name.startswith("encoder.") else "self_prefix"


def _owner(pattern: re.Pattern[str], key: str) -> str:
    match = pattern.fullmatch(key)
    return "" if match is None else match["owner"]


def _parted(pattern: re.Pattern[str], key: str, folder: Path) -> tuple[str, str]:
    match = pattern.fullmatch(key)
    if match is None:
        raise TensorMismatchError(f"{folder} holds {key}, which belongs to no adapter of its method")
    return match["owner"], match["leaf"]


@torch.no_grad()
def _orthonormal(original: Tensor, base: Tensor | None) -> Tensor:
    """The matrix that torch's orthogonal parametrisation makes of its parameters."""
    linear = torch.nn.Linear(original.shape[1], original.shape[0], bias=False)
    torch.nn.utils.parametrizations.orthogonal(linear, use_trivialization=base is not None)
    state = {"parametrizations.weight.original": original}
    linear.load_state_dict(state | ({} if base is None else {"parametrizations.weight.0.base": base}))
    return linear.weight.detach().clone()


def _same_end(path: str, other: str) -> bool:
    """Whether two paths are of the same module, of which one may begin with the name of the base model."""
    return f".{other}".endswith(f".{path}") or f".{path}".endswith(f".{other}")


def _leaf(leaf: str) -> str:
    for pattern, name in _LEAVES:
        leaf = pattern.sub(name, leaf)
    return leaf


def _older(version: Any, than: tuple[int, int]) -> bool:
    """Whether a version of ``adapters`` (not of the library before it, which was right) is older."""
    match = re.match(r"adapters\.(\d+)\.(\d+)", str(version or ""))
    return match is not None and (int(match[1]), int(match[2])) < than
