"""What tells one base model from another, small enough to travel with an adapter."""

import base64
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapterhub.errors import CorruptCheckpointError

_SAMPLES = 64  # values of a tensor that go into the digest
_PROBE = 64  # values that travel with the fingerprint
_BF16_ULP = 2.0**-7  # relative distance of neighbouring bfloat16 numbers, at most


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
    probe the same model in another precision. Both are None where values cannot be read (quantised, or not there).
    """

    name: str
    revision: str | None
    model_type: str
    hidden_size: int
    layers: int
    vocab_size: int | None
    shape: str
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
        samples = [value for _, parameter in named if (value := _sample(parameter)) is not None]
        readable = len(samples) == len(named)
        config = model.config.get_text_config()
        return cls(
            name=_public_name(str(model.config._name_or_path or "")),
            revision=getattr(model.config, "_commit_hash", None),
            model_type=model.config.model_type,
            hidden_size=int(getattr(config, "hidden_size", 0) or 0),
            layers=len(layers),
            vocab_size=getattr(config, "vocab_size", None),
            shape=_digest(repr([(name, list(parameter.shape)) for name, parameter in named]).encode()),
            weights=_digest(b"".join(value.numpy().tobytes() for value in samples)) if readable else None,
            probe=tuple(_spread(torch.cat(samples), _PROBE).tolist()) if readable else None,
            tokenizer=None if tokenizer is None else _tokenizer_digest(tokenizer),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the probe as base64 of little-endian float32."""
        probe = None if self.probe is None else struct.pack(f"<{len(self.probe)}f", *self.probe)
        return asdict(self) | {"probe": None if probe is None else base64.b64encode(probe).decode()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what ``to_dict`` gave; what a later version may have added is passed over.

        Raises:
            CorruptCheckpointError: if something in it is not what ``to_dict`` gives.
        """
        known = {field.name: values.get(field.name) for field in fields(cls)}
        try:
            probe = None if known["probe"] is None else base64.b64decode(known["probe"], validate=True)
            known["probe"] = None if probe is None else struct.unpack(f"<{len(probe) // 4}f", probe)
        except (TypeError, ValueError, struct.error) as error:
            raise CorruptCheckpointError(f"the probe of a base model is malformed: {error}") from error
        return cls(**known)  # type: ignore[arg-type]


def compare(saved: Fingerprint, here: Fingerprint) -> tuple[Match, tuple[str, ...]]:
    """How well the model ``here`` fits what was ``saved``, and what differs, in words."""
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
    if saved.tokenizer and here.tokenizer and saved.tokenizer != here.tokenizer:
        reasons.append("another tokenizer")
    if saved.shape != here.shape:
        reasons.append("parameters of other names or shapes")
        return Match.OTHER_SHAPE, tuple(reasons)
    if saved.weights is None or here.weights is None:
        return Match.SAME, (*reasons, "weights could not be compared")
    if saved.weights == here.weights:
        return Match.EXACT, tuple(reasons)
    if _close(saved.probe or (), here.probe or ()):
        return Match.SAME, (*reasons, "the same weights in another precision")
    return Match.OTHER_WEIGHTS, (*reasons, "other weights in parameters of the same shapes")


def _sample(parameter: Tensor) -> Tensor | None:
    """Evenly spaced values of a parameter as float32; None if they cannot be read."""
    if (
        parameter.device.type == "meta"
        or not parameter.is_floating_point()
        or type(parameter).__name__ not in ("Parameter", "Tensor")
    ):
        return None
    return _spread(parameter.detach().reshape(-1), _SAMPLES).float().cpu()


def _spread(values: Tensor, count: int) -> Tensor:
    if values.numel() <= count:
        return values
    return values[torch.linspace(0, values.numel() - 1, count, device=values.device, dtype=torch.float64).long()]


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(abs(a - b) <= _BF16_ULP * max(abs(a), abs(b)) + 1e-7 for a, b in pairs)


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return _digest((backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))).encode())


def _public_name(name: str) -> str:
    """A Hub name as it is; of a path on this machine the last part alone."""
    return Path(name).name if name.startswith((".", "/", "~")) or Path(name).exists() else name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
