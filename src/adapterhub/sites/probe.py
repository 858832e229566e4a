"""The smallest inputs that make a model run, for discovery to watch."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

TOKENS = 4


def inputs(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """Candidate keyword arguments for ``model``, the most complete first.

    A model with several towers is offered the inputs of all of them, then those of its main input alone; each without
    and with an attention mask.
    """
    accepted = inspect.signature(model.forward).parameters
    config = model.config
    makers = {
        "input_ids": lambda: _ids(model, config.get_text_config()),
        "decoder_input_ids": lambda: _ids(model, config.get_text_config(decoder=True)),
        "pixel_values": lambda: _pixels(model, config),
        "input_features": lambda: _features(model, config),
        "input_values": lambda: torch.zeros(1, 16000, device=model.device, dtype=model.dtype),
    }
    made: dict[str, Any] = {}
    for name, make in makers.items():
        if name not in accepted or (name == "decoder_input_ids" and not config.is_encoder_decoder):
            continue
        value = make()
        if value is not None:
            made[name] = value
    settings = {name: False for name in ("use_cache", "output_attentions") if name in accepted}
    main = {name: made[name] for name in (model.main_input_name, "decoder_input_ids") if name in made}
    for given in (made, main) if main != made else (made,):
        yield given | settings
        if "input_ids" in given and "attention_mask" in accepted:
            # Without a mask some models look into the ids, which those without values do not have.
            yield given | settings | {"attention_mask": torch.ones_like(given["input_ids"])}


def _ids(model: PreTrainedModel, config: PretrainedConfig) -> torch.Tensor | None:
    """Four ordinary token ids ``[1, 4]``, away from the special ones at either end of most vocabularies."""
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int) or size < 2:
        return None
    special = {getattr(config, f"{kind}_token_id", None) for kind in ("pad", "bos", "eos", "decoder_start")}
    ids = [token for token in range(size) if token not in special][size // 4 :][:TOKENS] or [size - 1]
    ids += ids[-1:] * (TOKENS - len(ids))
    eos = getattr(config, "eos_token_id", None)
    if isinstance(eos, int) and 0 <= eos < size:
        ids[-1] = eos  # some models pool at the end-of-sequence token
    return torch.tensor([ids], device=model.device)


def _pixels(model: PreTrainedModel, config: PretrainedConfig) -> torch.Tensor | None:
    """A black image ``[1, channels, height, width]`` of the size that the configuration names."""
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None)
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    channels = getattr(vision, "num_channels", 3)
    return torch.zeros(1, channels, height, width, device=model.device, dtype=model.dtype)


def _features(model: PreTrainedModel, config: PretrainedConfig) -> torch.Tensor | None:
    """Silent speech features ``[1, mel bins, frames]`` for two convolutions of stride 1 and 2."""
    bins, positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if bins is None or positions is None:
        return None
    return torch.zeros(1, bins, 2 * positions, device=model.device, dtype=model.dtype)
