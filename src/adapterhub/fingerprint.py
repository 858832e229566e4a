"""What tells one base model from another, small enough to travel with an adapter; read and compared without torch."""

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from adapterhub.errors import CorruptCheckpointError

Values = NDArray[np.float32]


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
    if comparable(saved.tokenizer, here.tokenizer) and saved.tokenizer != here.tokenizer:
        reasons.append("another tokenizer")
    if (saved.hidden_size, saved.layers) != (here.hidden_size, here.layers):
        return Match.OTHER_SHAPE, tuple(reasons)
    if comparable(saved.shape, here.shape) and saved.shape != here.shape:
        return Match.OTHER_SHAPE, (*reasons, "parameters of other names or shapes")
    if not comparable(saved.weights, here.weights):
        return (Match.OTHER_WEIGHTS if differ else Match.SAME), (*reasons, "weights could not be compared")
    if saved.weights == here.weights:
        return Match.EXACT, tuple(reasons)
    if _rounded(saved.probe or (), here.probe or ()):
        return Match.SAME, (*reasons, "the same weights in another precision")
    return Match.OTHER_WEIGHTS, (*reasons, "other weights in parameters of the same shapes")


def comparable(one: str | None, other: str | None) -> bool:
    """Whether two digests are there and made in the same way, so that they are equal if what they tell of is."""
    return one is not None and other is not None and one.partition(":")[0] == other.partition(":")[0]


def _rounded(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether each pair of values is one number in two precisions, and not all are the same."""
    if len(one) != len(other) or one == other:  # then what differs lies elsewhere, and it is no matter of precision
        return False
    a, b = np.array(one, np.float32), np.array(other, np.float32)
    agree = (a == b) | (np.isnan(a) & np.isnan(b))
    for half in (_to_bfloat16, _to_float16):
        agree |= _is_rounding(a, b, half) | _is_rounding(b, a, half)
    return bool(agree.all())


def _is_rounding(values: Values, rounded: Values, half: Callable[[Values], Values]) -> NDArray[np.bool_]:
    """Where ``rounded`` is the half-precision number nearest to a value; of two equally near, either will do."""
    above, below = (half(np.nextafter(values, np.float32(end))) for end in (np.inf, -np.inf))
    return (rounded == above) | (rounded == below)


def _to_float16(values: Values) -> Values:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _to_bfloat16(values: Values) -> Values:
    """The nearest of the numbers whose lower 16 bits are zero; of two equally near, the one with an even last bit."""
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
