"""The fingerprint of a model in memory."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapterhub.checkpoints.sharded import whole
from adapterhub.fingerprint import Fingerprint

_SAMPLES = 64  # values of a tensor that go into the digest
_PROBE = 64  # values that travel with the fingerprint
_SCHEME = "1:"  # before every digest; those of two schemes cannot be compared
_PRECISIONS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def fingerprint_of(
    model: PreTrainedModel,
    layers: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Fingerprint:
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
    return Fingerprint(
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
    plain = type(parameter) in (nn.Parameter, Tensor) and parameter.dtype in _PRECISIONS
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
