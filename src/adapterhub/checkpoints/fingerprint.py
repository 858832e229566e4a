"""What tells one base model from another, small enough to travel with an adapter."""

import base64
import hashlib
import itertools
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapterhub.checkpoints.sharded import whole
from adapterhub.errors import CorruptCheckpointError

_SAMPLES = 64  # values of a tensor that go into the digest
_PROBE = 64  # values that travel with the fingerprint
_SCHEME = "1:"  # before every digest; those of two schemes cannot be compared
_FULL, _HALVES = (torch.float32, torch.float64), (torch.bfloat16, torch.float16)


class Match(IntEnum):
    """How well a base model fits a fingerprint; higher is better."""

    OTHER_SHAPE = 0
    OTHER_WEIGHTS = 1
    SAME = 2
    EXACT = 3


@dataclass(frozen=True)
class Fingerprint:
    """Name, shape and weights of a base model.

    ``shape`` is a digest over the names and shapes of the parameters in all layers; embeddings, pooler and head are
    left out, since classes of one model differ in them. ``weights`` is a digest over 64 evenly spaced values of each
    of these parameters, and ``probe`` are 64 values spread over them: the digest recognises the same numbers, the
    probe the same model in another precision. A change of other values alone goes unseen. ``shape`` is None for a
    quantised model, ``weights`` and ``probe`` also where values cannot be read.
    """

    name: str
    revision: str | None
    model_type: str
    hidden_size: int
    layers: int
    vocab_size: int | None
    shape: str | None
    weights: str | None
    probe: tuple[float, ...] | None
    tokenizer: str | None = None

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        layers: Mapping[str, nn.Module],
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Self:
        """The fingerprint of a model of which ``layers`` are the repeated blocks by name."""
        named = [
            (f"{layer}.{name}", parameter)
            for layer, module in layers.items()
            for name, parameter in module.named_parameters()
        ]
        quantised = _is_quantised(model, [parameter for _, parameter in named])
        samples = [] if quantised else [value for _, parameter in named if (value := _sample(parameter)) is not None]
        readable = 0 < len(samples) == len(named)
        config = model.config.get_text_config()
        return cls(
            name=_public_name(str(model.config._name_or_path or "")),
            revision=getattr(model.config, "_commit_hash", None),
            model_type=model.config.model_type,
            hidden_size=int(getattr(config, "hidden_size", 0) or 0),
            layers=len(layers),
            vocab_size=getattr(config, "vocab_size", None),
            shape=None if quantised else _digest(repr([(name, list(value.shape)) for name, value in named]).encode()),
            weights=_digest(b"".join(value.numpy().astype("<f4").tobytes() for value in samples)) if readable else None,
            probe=_probe(samples) if readable else None,
            tokenizer=None if tokenizer is None else _tokenizer_digest(tokenizer),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the probe as base64 of little-endian float32."""
        probe = None if self.probe is None else struct.pack(f"<{len(self.probe)}f", *self.probe)
        return asdict(self) | {"probe": None if probe is None else base64.b64encode(probe).decode()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Self:
        """Read back what ``to_dict`` gave, found at ``where``; what a later version may have added is passed over.

        Raises:
            CorruptCheckpointError: if something in it is not what ``to_dict`` gives.
        """
        known = {field.name: values.get(field.name) for field in fields(cls)}
        for key, value in known.items():
            kind = int if key in ("hidden_size", "layers", "vocab_size") else str
            needed = key in ("name", "model_type", "hidden_size", "layers")
            if not (type(value) is kind or (value is None and not needed)):
                raise CorruptCheckpointError(
                    f"{where}: the fingerprint of the base model is malformed: {key!r} must be "
                    f"{'a whole number' if kind is int else 'text'}{'' if needed else ' or null'}, and is {value!r}"
                )
        if known["probe"] is not None:
            try:
                data = base64.b64decode(known["probe"], validate=True)
                known["probe"] = struct.unpack(f"<{len(data) // 4}f", data)
            except (ValueError, struct.error) as error:
                raise CorruptCheckpointError(f"{where}: the probe of the base model is malformed: {error}") from error
        return cls(**known)  # type: ignore[arg-type]


def compare(saved: Fingerprint, here: Fingerprint) -> tuple[Match, tuple[str, ...]]:
    """How well the model ``here`` fits what was ``saved``, and what differs, in words.

    Weights that cannot be compared count as the same if nothing else speaks against it.
    """
    reasons = [
        f"{title} {then!r} then, {now!r} here"
        for title, then, now in (
            ("model type", saved.model_type, here.model_type),
            ("hidden size", saved.hidden_size, here.hidden_size),
            ("layers", saved.layers, here.layers),
            ("vocabulary", saved.vocab_size, here.vocab_size),
        )
        if then != now
    ]
    differ = bool(reasons)
    if _comparable(saved.tokenizer, here.tokenizer) and saved.tokenizer != here.tokenizer:
        reasons.append("another tokenizer")
    if (saved.hidden_size, saved.layers) != (here.hidden_size, here.layers):
        return Match.OTHER_SHAPE, tuple(reasons)
    if _comparable(saved.shape, here.shape) and saved.shape != here.shape:
        return Match.OTHER_SHAPE, (*reasons, "parameters of other names or shapes")
    if not _comparable(saved.weights, here.weights):
        return (Match.OTHER_WEIGHTS if differ else Match.SAME), (*reasons, "weights could not be compared")
    if saved.weights == here.weights:
        return Match.EXACT, tuple(reasons)
    if _rounded(saved.probe or (), here.probe or ()):
        return Match.SAME, (*reasons, "the same weights in another precision")
    return Match.OTHER_WEIGHTS, (*reasons, "other weights in parameters of the same shapes")


def _comparable(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.partition(":")[0] == other.partition(":")[0]


def _is_quantised(model: PreTrainedModel, parameters: list[nn.Parameter]) -> bool:
    """Whether shapes of parameters tell how they are packed (or spread over machines), and nothing of the model."""
    return (
        getattr(model, "hf_quantizer", None) is not None
        or getattr(model.config, "quantization_config", None) is not None
        or any(not parameter.is_floating_point() or not parameter.numel() for parameter in parameters)
    )


def _sample(parameter: Tensor) -> Tensor | None:
    """Evenly spaced values of a parameter as float32; None if they cannot be read."""
    parameter = whole(parameter.detach())
    plain = type(parameter) in (nn.Parameter, Tensor) and parameter.dtype in (*_FULL, *_HALVES)
    if parameter.is_meta or not plain:
        return None
    count = min(parameter.numel(), _SAMPLES)
    steps = max(count - 1, 1)
    places = [place * (parameter.numel() - 1) // steps for place in range(count)]  # whole numbers: alike on any device
    return parameter.reshape(-1)[torch.tensor(places, dtype=torch.long, device=parameter.device)].float().cpu()


def _probe(samples: list[Tensor]) -> tuple[float, ...]:
    """One value of a tensor here and there: steps of a golden section come by all layers and kinds of parameters."""
    count = len(samples)
    step = next(step for step in itertools.count(max(1, count * 618 // 1000)) if math.gcd(step, count) == 1)
    visited = (samples[number * step % count] for number in range(_PROBE))
    return tuple(values[number * len(values) // _PROBE].item() for number, values in enumerate(visited))


def _rounded(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether each pair of values is one number in two precisions, and not all are the same."""
    if len(one) != len(other) or one == other:  # then what differs lies elsewhere, and it is no matter of precision
        return False
    a, b = torch.tensor(one), torch.tensor(other)
    agree = (a == b) | (a.isnan() & b.isnan())
    for half in _HALVES:
        agree |= _is_rounding(a, b, half) | _is_rounding(b, a, half)
    return bool(agree.all())


def _is_rounding(values: Tensor, rounded: Tensor, dtype: torch.dtype) -> Tensor:
    """Where ``rounded`` is the number of ``dtype`` nearest to a value; of two equally near, either will do."""
    above, below = (torch.nextafter(values, torch.tensor(end)).to(dtype).float() for end in (math.inf, -math.inf))
    return (rounded == above) | (rounded == below)


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of what makes tokens; how the last call padded and truncated does not count."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _digest(repr(sorted(tokenizer.get_vocab().items())).encode())
    state = json.loads(backend.to_str())
    return _digest(json.dumps({**state, "padding": None, "truncation": None}, sort_keys=True).encode())


def _public_name(name: str) -> str:
    """A Hub name as it is; of a path on this machine the last part alone."""
    return Path(name).name if name.startswith((".", "/", "~")) or Path(name).exists() else name


def _digest(data: bytes) -> str:
    return _SCHEME + hashlib.sha256(data).hexdigest()[:32]
