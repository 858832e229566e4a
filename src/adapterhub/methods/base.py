"""What every method has in common: its configuration, and what it is told about a place in a model.

A method knows no transformer. For each place that a model offers, the configuration is asked for a module
(``AdapterConfig.build``) and answers with one, or with None where it does not act.
"""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError

M = TypeVar("M", bound=nn.Module)
PlaceKind = Literal["sublayer", "norm", "weight", "experts", "embeddings", "attention", "layer", "side", "prompt"]


class Weight(ABC):
    """A weight of the base model as a matrix ``[out, in]``, whatever way it is stored; or some rows of one.

    Of an embedding, ``in`` are the tokens; of a convolution, the matrix is ``[out, in, height, width]``. Of several
    ``experts``, ``shape`` is that of one, the matrix is ``[experts, out, in]`` and the bias ``[experts, out]``.
    """

    experts: int | None = None
    # Whether it can be applied to stacks: matrices ``[n, out, in]`` to inputs ``[n, ..., in]``.
    takes_stacks: bool = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """That of the matrix; known also where the values are packed, as in a quantised model."""

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """The values, not a copy where that can be."""

    @property
    @abstractmethod
    def bias(self) -> Tensor | None:
        """``[out]``, or None."""

    @abstractmethod
    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        """What the base module would give for ``inputs`` with ``matrix`` in the place of its own, and no bias."""

    @abstractmethod
    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        """``apply`` for the product of ``up`` ``[out, r]`` and ``down`` ``[r, in]``, without making it."""

    def by_output(self, matrix: Tensor) -> Tensor:
        """``matrix`` with a row for each output: ``[out, in]``, or ``[experts, out, in]``."""
        return matrix.flatten(1) if self.experts is None else matrix

    def select(self, output: Tensor) -> Tensor:
        """What of the base module's output this weight gave."""
        return output

    def replace(self, output: Tensor, values: Tensor) -> Tensor:
        """The base module's output with ``values`` in the place of what this weight gave."""
        return values

    def spread(self, vector: Tensor) -> Tensor:
        """``vector`` ``[out]`` in a shape that broadcasts with the output."""
        return vector

    @abstractmethod
    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Write values into the base module, in place."""


class Vocabulary(ABC):
    """The tokens that a base model knows."""

    @abstractmethod
    def check(self) -> None:
        """Pass a model in which any vectors can stand for tokens.

        Raises:
            ConfigError: for any other.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there are."""

    @abstractmethod
    def vectors(self, ids: Sequence[int]) -> Tensor:
        """What the base model's own table maps tokens to, ``[tokens, width]``."""

    @abstractmethod
    def tokens(self, text: str, tokenizer: str | None) -> list[int]:
        """The tokens of a text, without special ones, by the ``tokenizer`` of that name, or the model's own.

        Raises:
            ConfigError: if there is no such tokenizer.
        """


@runtime_checkable
class Mergeable(Protocol):
    """A part of an adapter that comes to another weight and bias of the base module."""

    def merged(self, weight: Weight) -> tuple[Tensor, Tensor | None]:
        """The matrix and the bias with which the base module alone gives what it gives with this part.

        Raises:
            ConfigError: if its options make that impossible.
        """


@runtime_checkable
class MergeableNorm(Protocol):
    """A part in place of a norm that comes to other parameters of it."""

    def merged_norm(self, norm: nn.Module) -> Mapping[str, Tensor]:
        """The parameters, by name, with which the base model's norm alone gives what this part gives."""


@dataclass(frozen=True)
class Place:
    """One place in a model, as a method sees it.

    ``role`` is the kind of a sublayer (``attention``, ``cross_attention``, ``feed_forward``), ``norm``, the role of a
    weight (``q k v qkv kv o up gate gate_up down embedding``, else ``other``), ``embeddings``, what the first layer
    reads, ``keys_values`` or ``cross_keys_values``, ``layer``, the residual stream after one, ``side``, beside one,
    where what it reads is known, or ``prompt`` and ``decoder_prompt``, where vectors can be put among tokens. ``layer``
    counts over the whole model and is None outside its layers; ``width`` is the hidden size, or the number of outputs
    of a weight. ``norm`` is the base model's own module at a place of kind ``norm``. At one of kind ``weight``,
    ``weight`` and the ``path`` of its module are there;
    ``whole`` is False where it is only a part of what that module holds. At one of kind ``experts``, ``expert_weight``
    is the weight of all experts of a layer, and ``path`` that of the parameter. At one of kind ``attention``, where
    keys and values are read, ``heads`` are the number of heads that keys have, and the widths of a key and of a value.
    At one of kind ``side``, ``causal`` says whether the layer shows a position those before it alone. At one of kind
    ``prompt`` there is the model's ``vocabulary``. ``tower`` is the name of its tower, in a model of several.
    """

    kind: PlaceKind
    name: str
    role: str
    layer: int | None
    width: int
    norm: nn.Module | None = None
    path: str = ""
    weight: Weight | None = None
    whole: bool = True
    heads: tuple[int, int, int] | None = None
    expert_weight: Weight | None = None
    vocabulary: Vocabulary | None = None
    tower: str = ""
    causal: bool = False

    @property
    def any_weight(self) -> Weight | None:
        """The weight, or that of experts."""
        return self.weight or self.expert_weight

    def is_in(self, left_out: Sequence[int | str]) -> bool:
        """Whether its layer (by number) or its tower (by name) is among those."""
        return self.layer in left_out or (self.tower != "" and self.tower in left_out)


@dataclass(frozen=True)
class Modules:
    """All that an adapter is made of: modules by the names of their places, and one that they share, if they do.

    Those of a union are in its ``members``.
    """

    parts: Mapping[str, nn.Module]
    shared: nn.Module | None = None
    members: "tuple[Modules, ...]" = ()


@dataclass(frozen=True, eq=False)
class AdapterConfig(Mapping[str, Any]):
    """Configuration of a method: immutable, comparable and complete (what is not a field is not an option).

    It reads as a mapping too: ``config["reduction_factor"]``, ``config.get("leave_out")``, ``dict(config)``.
    A method says in ``build`` what it does at one place; or in ``modules``, if its parts have something in common.
    """

    method: ClassVar[str]

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdapterConfig) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def check(self, places: Sequence[Place]) -> None:
        """Look at all that a model offers before anything is built, for names that fit nothing, say.

        Raises:
            ConfigError: if the configuration does not fit: ``leave_out`` names a tower that is not there, say.
        """
        towers = sorted({place.tower for place in places} - {""})
        for name in getattr(self, "leave_out", ()):
            if isinstance(name, str) and name not in towers:
                there = f"the model has the towers {', '.join(towers)}" if towers else "the model has one tower alone"
                raise ConfigError(f"{type(self).__name__}: leave_out names the tower {name!r}, and {there}")

    def resolved(self, places: Sequence[Place]) -> Self:
        """A copy that names what has to be looked up (the tokens of a text, say), so that it need not be again.

        Raises:
            ConfigError: if it cannot be found.
        """
        return self

    def modules(self, places: Sequence[Place]) -> Modules:
        """New modules for all places where this method acts.

        Raises:
            ConfigError: if a value of the configuration does not fit a place.
        """
        return Modules({place.name: part for place in places if (part := self.build(place)) is not None})

    def build(self, place: Place) -> nn.Module | None:
        """A new module of this method for ``place``, or None where the method does not act.

        Raises:
            ConfigError: if a value of the configuration does not fit the place.
        """
        return self.modules([place]).parts.get(place.name)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the name of the method, ready for JSON."""
        return {"method": self.method, **asdict(self)}

    @staticmethod
    def load(source: "AdapterConfig | str | Mapping[str, Any] | Path | None" = None, **overrides: Any) -> Any:
        """A configuration from whatever a person writes: as ``adapterhub.load_config``.

        Raises:
            ConfigError: for an unknown name or option, a malformed string, or a file that is not such a dictionary.
        """
        from adapterhub.methods import registry  # which reads configurations of every method

        return registry.load_config(source, **overrides)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration with the given fields; a ``method`` among them is checked.

        Raises:
            ConfigError: for an unknown field, naming those there are, or a value out of range.
        """
        given = dict(values)
        if given.pop("method", cls.method) != cls.method:
            raise ConfigError(f"a configuration of method {values['method']!r} is not one of {cls.method!r}")
        cls._check_names(given)
        return cls(**given)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            ConfigError: for an unknown field, naming those there are, or a value out of range.
        """
        self._check_names(changes)
        return replace(self, **changes)

    def leaving_out(self, layers: Iterable[int | str]) -> Self:
        """A copy that does not act in some more layers (by number) or towers (by name).

        Raises:
            ConfigError: if this method cannot leave out layers.
        """
        left_out = {*getattr(self, "leave_out", ()), *layers}
        return self.replace(leave_out=tuple(sorted(left_out, key=lambda one: (isinstance(one, str), f"{one:>9}"))))

    def _require(self, holds: bool, name: str, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} must be {wanted}, and is {getattr(self, name)!r}")

    @classmethod
    def _check_names(cls, given: Mapping[str, Any]) -> None:
        known = [field.name for field in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(f"{cls.__name__} has no option {', '.join(unknown)}. Its options: {', '.join(known)}.")


def seeded(seed: int | None, name: str) -> torch.Generator | None:
    """A generator for the initial values at the place ``name``; None (the global random state) without a seed.

    The name goes into the seed: layers differ, and the order in which they are built does not matter.
    """
    if seed is None:
        return None
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))  # of which it reads 32 bits


class OwnNorm(nn.Module):
    """An adapter's own copy of a norm, in the place of the base model's."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = trainable_copy(norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` ``[..., width]``, normalised."""
        return cast(Tensor, self.norm(inputs))

    def merged_norm(self, norm: nn.Module) -> Mapping[str, Tensor]:
        """The parameters with which ``norm`` gives what this one gives."""
        return {name: parameter.detach() for name, parameter in self.norm.named_parameters()}


def trainable_copy(module: nn.Module) -> nn.Module:
    """A copy of a leaf module with parameters of its own and none of the hooks that the original carries."""
    made = bare_copy(module)
    made._parameters = {
        name: None if p is None else nn.Parameter(p.detach().clone()) for name, p in module._parameters.items()
    }
    made._buffers = {name: None if b is None else b.clone() for name, b in module._buffers.items()}
    return made


def bare_copy(module: M) -> M:
    """A shallow copy of a module, which holds the same tensors, without any hooks."""
    made = copy(module)
    made.__dict__.pop("forward", None)  # what accelerate puts over that of the class is for the original
    for name, value in nn.Module().__dict__.items():
        if name.endswith("_hooks") or "_hooks_" in name:
            made.__dict__[name] = value
    return made
