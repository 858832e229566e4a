"""Where ``adapters`` keeps what: the names of its files, and the paths of its modules in a base model.

A tensor's name there holds the path of a module of the base model and the name of the adapter:
``bert.encoder.layer.0.output.adapters.sst-2.adapter_up.weight``. Here ``*`` stands for the latter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from adapterhub.checkpoints.entries import alignment
from adapterhub.checkpoints.renamed import to_here, to_there
from adapterhub.errors import CorruptCheckpointError, TensorMismatchError
from adapterhub.methods import Place
from adapterhub.sites import Layer, Sites, Sublayer

ADAPTER, HEAD, FUSION = "adapter_config.json", "head_config.json", "adapter_fusion_config.json"
WEIGHTS = {  # safetensors, and a pickle
    ADAPTER: ("adapter.safetensors", "pytorch_adapter.bin"),
    HEAD: ("model_head.safetensors", "pytorch_model_head.bin"),
    FUSION: ("model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin"),
}
ANY = "*"
# Of 2020, when there were two kinds of adapter (and, before that, other names for them).
_FIRST_NAMES = re.compile(
    r"\.(?:(?:attention|layer)_text_(?:task|lang)_adapters|layer_adapters|layer_language_adapters|"
    r"language_attention_adapters|attention_adapters(?!\.adapters\.))\."
)
_NAMED = re.compile(
    r"(?P<before>(?:.*\.)?(?:adapters|loras|refts|prefix_gates|adapter_fusion_layer|heads))\.[^.]+\.(?P<leaf>.+)"
)
_GLOBAL = re.compile(  # what is kept once for a model, wherever it shows
    r"(?:.+\.)?(?P<owner>invertible|shared_parameters|prefix_tuning|prompt_tuning)"
    r"(?:(?:_lang)?_adapters|(?:\.pool)?\.prefix_tunings|\.prompt_tunings)?\.[^.]+\.(?P<leaf>.+)"
)
_GLOBALS = {
    "invertible": "invertible_adapters",
    "shared_parameters": "shared_parameters",
    "prefix_tuning": "prefix_tuning.prefix_tunings",
    "prompt_tuning": "prompt_tuning.prompt_tunings",
}
# Paths of the bottlenecks of a layer, for models in which they are not attributes of the layer. Of T5, whose layers
# hold sublayers in a list, the path is that of the sublayer.
_KEPT = {"attention": "attention_adapters", "cross_attention": "cross_attention_adapters"}
_FEED_FORWARD = "output_adapters"
_LIKE_BERT = {"attention": "attention.output", "cross_attention": "crossattention.output", "feed_forward": "output"}
_OWN = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "electra", "bert-generation", "deberta", "deberta-v2"), _LIKE_BERT
    ),
    "vit": {"feed_forward": "output.output_adapters"},
    "albert": {"attention": "attention.attention_adapters"},
}
_IN_LISTS = ("t5", "mt5")
_BY_ATTRIBUTE = ("bart", "clip", "distilbert", "gpt2", "gptj", "llama", "mbart", "mistral", "plbart", "whisper")
_IN_ENCODER = ("bart", "mbart", "plbart", "t5", "mt5", "whisper")  # where invertible adapters are kept
BUILT_IN = (*_OWN, *_IN_LISTS, *_BY_ATTRIBUTE)
BY_INTERFACE = ("modernbert", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi")
_LAST_TOWER = {"clip": "vision_model"}  # which runs first
# There, the first projection of the feed-forward is the last one.
SWAPPED = ("llama", "mistral")


@dataclass(frozen=True)
class Layout:
    """Paths of ``adapters`` in one model.

    Attributes:
        model_type: of the base model.
        sites: of this model.
        places: of this model.
        prefix: what paths begin with in the class that ``adapters`` would save from, and do not here.
        own: whether paths are those of the model type, or those of any that ``adapters`` knows by an interface.
    """

    model_type: str
    sites: Sites
    places: Sequence[Place]
    prefix: str = ""
    own: bool = True

    def bottleneck(self, sublayer: Sublayer) -> str:
        """The path of what holds the bottlenecks of a sublayer."""
        layer = self._layers[sublayer.layer].path
        if self.own and self.model_type in _IN_LISTS:
            inner = sublayer.output_at.removeprefix(f"{layer}.").split(".")
            return ".".join((layer, *inner[:2]))
        own = _OWN.get(self.model_type, {}) if self.own else {}
        return f"{layer}.{own.get(sublayer.kind) or _KEPT.get(sublayer.kind, _FEED_FORWARD)}"

    def layer(self, name: str) -> str:
        """The path of the layer of that name."""
        return next(layer.path for layer in self.sites.layers if layer.name == name)

    def left_out(self, names: Iterable[str]) -> list[int]:
        """The numbers of the layers that no tensor of these ``names`` is in."""
        acting = {layer.index for name in names for layer in self.sites.layers if name.startswith(f"{layer.name}.")}
        return [layer.index for layer in self.sites.layers if layer.index not in acting]

    @cached_property
    def numbers(self) -> dict[int, int]:
        """The number that each layer has there, by its number here: layers are counted tower after tower."""
        last = _LAST_TOWER.get(self.model_type)
        there = sorted(self.sites.layers, key=lambda layer: layer.tower == last)
        return {layer.index: number for number, layer in enumerate(there)}

    @cached_property
    def sublayers(self) -> dict[str, Sublayer]:
        """Sublayers by name."""
        return {sublayer.name: sublayer for sublayer in self.sites.sublayers}

    @cached_property
    def weights(self) -> dict[str, Place]:
        """The places of weights by name."""
        return {place.name: place for place in self.places if place.weight is not None}

    def of_sublayer(self, name: str) -> tuple[Sublayer | None, str]:
        """The sublayer that the name of a tensor begins with, and the rest of it."""
        for site, sublayer in self.sublayers.items():
            if name.startswith(f"{site}."):
                return sublayer, name.removeprefix(f"{site}.")
        return None, name

    def parts(self, path: str, roles: Sequence[str], where: object) -> list[Place]:
        """The places of the weight at a path: the one, or those of the ``roles`` that stand in a fused one.

        Raises:
            TensorMismatchError: if there is none.
        """
        here = [place for place in self.weights.values() if place.path == path]
        found = [place for role in roles for place in here if not place.whole and place.role == role]
        found = found or [place for place in here if place.whole]
        if not found:
            raise TensorMismatchError(
                f"{where} adapts {path}, which this model has not: load the base model that it was made for"
            )
        return found

    def aligned(self, tensors: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
        """Tensors of a file under keys: paths of this model, ``*`` for the adapter's name, newer names for older ones.

        Raises:
            CorruptCheckpointError: if two tensors that are one and the same in the model differ.
        """
        named: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            key = to_here(_key(name), self.model_type)
            if key in named and not named[key].equal(tensor):
                raise CorruptCheckpointError(f"{where} holds {key.replace(f'.{ANY}', '')} twice, with other values")
            named[key] = tensor
        inner = [key for key in named if not key.startswith(tuple(_GLOBALS.values()))]
        paths = tuple(f"{layer.path}." for layer in self.sites.layers)
        change = alignment(inner, [layer.path for layer in self.sites.layers], lambda key: key.startswith(paths))
        return {key if key not in inner else change(key): tensor for key, tensor in named.items()}

    def named(self, tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """Tensors under keys as they are in a file of the adapter ``name``."""
        base = self.prefix or self._base
        made = {}
        for key, tensor in tensors.items():
            if key.startswith(_GLOBALS["invertible"]) and self.model_type in _IN_ENCODER:
                key = f"encoder.{key}"
                before = base
            else:
                before = base if key.startswith(tuple(_GLOBALS.values())) else self.prefix
            made[before + to_there(key, self.model_type).replace(f".{ANY}.", f".{name}.")] = tensor
        return made

    def variants(self) -> Iterator["Layout"]:
        """This layout, and that of a model which ``adapters`` knows by an interface."""
        yield self
        yield Layout(self.model_type, self.sites, self.places, self.prefix, own=False)

    @cached_property
    def _layers(self) -> dict[int, Layer]:
        return {layer.index: layer for layer in self.sites.layers}

    @property
    def _base(self) -> str:
        """What the path of the base model begins with, where a head is around it."""
        paths = [place.path for place in self.places if place.name.startswith("base.")]
        names = [place.name.removeprefix("base.") for place in self.places if place.name.startswith("base.")]
        return paths[0].removesuffix(names[0]) if paths else ""


def _key(name: str) -> str:
    name = _FIRST_NAMES.sub(".adapters.", name)
    if (found := _GLOBAL.fullmatch(name)) is not None and ".prefix_gates." not in name:
        return f"{_GLOBALS[found['owner']]}.{ANY}.{found['leaf']}"
    found = _NAMED.fullmatch(name)
    return name if found is None else f"{found['before']}.{ANY}.{found['leaf']}"
