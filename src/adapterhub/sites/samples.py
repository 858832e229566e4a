"""Made-up values for the inputs of a model, by the names that transformers gives them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

TOKENS = 4
_ANY_VOCABULARY = 64  # of a model that does not say
_FRAMES, _SAMPLES, _IMAGE, _GRID, _VIDEO, _BOXES = 64, 16000, 64, 4, 4, 3
_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_feat_size", "input_dim")
Values = list[dict[str, Any]]


def candidates(model: PreTrainedModel, accepted: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Keyword arguments out of those ``accepted``, with every combination of the shapes that they may have."""
    names = set(accepted)
    pictures = _pictures(model, names)
    parts: list[Values] = [pictures, _sound(model, names), _other(model, names)]
    for combination in product(*(part or [{}] for part in parts)):
        given = {name: value for part in combination for name, value in part.items()}
        for ids in _text(model, names, given):
            yield ids | given
    if pictures and "input_ids" in names:
        for combination in product(*(part or [{}] for part in parts[1:])):
            given = {name: value for part in combination for name, value in part.items()}
            yield from (ids | given for ids in _text(model, names, given))


def nested(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """A configuration and those inside of it, the outer ones first."""
    level = [config]
    while level:
        yield from level
        level = [value for one in level for value in vars(one).values() if isinstance(value, PretrainedConfig)]


def _setting(config: PretrainedConfig, *names: str, default: Any = None) -> Any:
    """The first of some settings that a configuration, or one inside of it, has."""
    for one in nested(config):
        for name in names:
            value = getattr(one, name, None)
            if value is not None and not isinstance(value, PretrainedConfig):
                return value
    return default


def _part(config: PretrainedConfig, *names: str) -> PretrainedConfig:
    """The configuration of one tower, by the name that it may have."""
    for one in nested(config):
        for name in names:
            if isinstance(found := getattr(one, name, None), PretrainedConfig):
                return found
    return config


def _text(model: PreTrainedModel, names: set[str], given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Token ids, in which images that are ``given`` have their places."""
    config = model.config
    made: dict[str, Any] = {}
    if "input_ids" in names:
        ids = _ids(model, config.get_text_config())
        if ids is not None:
            made["input_ids"] = ids
    if "decoder_input_ids" in names and (config.is_encoder_decoder or "input_ids" not in names):
        ids = _ids(model, config.get_text_config(decoder=True))
        if ids is not None:
            made["decoder_input_ids"] = ids
    if "input_ids" in made and given:
        places = _places(model, given)
        if places is not None:
            yield made | {"input_ids": torch.cat((made["input_ids"][:, :1], places, made["input_ids"][:, 1:]), dim=1)}
    yield made
    books = _setting(config, "num_codebooks", "num_channels")
    for count in (books, books + 1) if isinstance(books, int) and "pixel_values" not in names else ():
        several = {name: ids.unsqueeze(-1).repeat(1, 1, count) for name, ids in made.items()}  # of codes of sound
        yield several
        yield made | {name: ids for name, ids in several.items() if name == "decoder_input_ids"}


def _places(model: PreTrainedModel, given: dict[str, Any]) -> Tensor | None:
    """The ids that stand for the features of an image ``[1, features]``, if text and image are one sequence."""
    token = _setting(model.config, "image_token_id", "image_token_index")
    features: Callable[..., Any] | None = getattr(model, "get_image_features", None)
    if not isinstance(token, int) or features is None or not any("pixel" in name for name in given):
        return None
    with torch.no_grad():
        try:
            found = features(**given)
        except Exception:  # any model's code may run here
            return None
    found = getattr(found, "pooler_output", None) if not isinstance(found, (Tensor, tuple, list)) else found
    width = getattr(model.config.get_text_config(), "hidden_size", 0)
    count = sum(one.numel() // width for one in _tensors(found) if one.shape[-1] == width) if width else 0
    return torch.full((1, count), token, device=model.device) if count else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)


def _ids(model: PreTrainedModel, config: PretrainedConfig) -> Tensor | None:
    """Four ordinary token ids ``[1, 4]``, away from the special ones at either end of most vocabularies."""
    size = _setting(config, "vocab_size", "text_vocab_size", default=_ANY_VOCABULARY)
    if not isinstance(size, int) or size < 2:
        return None
    special: set[Any] = set()
    for kind in ("pad", "bos", "eos", "decoder_start"):
        token = getattr(config, f"{kind}_token_id", None)
        special |= set(token) if isinstance(token, list) else {token}
    ids = [token for token in range(size) if token not in special][size // 4 :][:TOKENS] or [size - 1]
    ids += ids[-1:] * (TOKENS - len(ids))
    eos = getattr(config, "eos_token_id", None)
    if isinstance(eos, int) and 0 <= eos < size:
        ids[-1] = eos  # some models pool at the end-of-sequence token
    return torch.tensor([ids], device=model.device)


def _pictures(model: PreTrainedModel, names: set[str]) -> Values:
    """Black images and videos, as pixels or as patches with the shape of their grid."""
    zeros = partial(torch.zeros, device=model.device, dtype=model.dtype)
    config = _part(model.config, "vision_config", "backbone_config", "vision")
    channels = _setting(config, "num_channels", "in_channels", "in_chans", default=3)
    channels = channels if isinstance(channels, int) else 3
    height, width = _image_size(config, _setting(model.config, "max_img_size", default=_IMAGE))
    frames = _setting(config, "num_frames", "frames_per_clip", default=_VIDEO)
    found: Values = []
    grid_name = next((name for name in ("image_grid_thw", "grid_thw", "image_grid_hws") if name in names), None)
    pixels = next((name for name in ("pixel_values", "hidden_states") if name in names), None)
    if grid_name is not None and pixels is not None:
        patch, time = _setting(config, "patch_size", default=14), _setting(config, "temporal_patch_size", default=1)
        grid = {grid_name: torch.tensor([[1, _GRID, _GRID]], device=model.device)}
        found += [grid | {pixels: zeros(_GRID**2, channels * times * patch**2)} for times in dict.fromkeys((time, 1))]
        found.append(grid | {pixels: zeros(_GRID**2, channels, patch, patch)})
    if "pixel_values" in names:
        image = zeros(1, channels, height, width)
        found += [{"pixel_values": image}, {"pixel_values": image.unsqueeze(1)}]
        found.append({"pixel_values": image.unsqueeze(1).repeat(1, frames, 1, 1, 1)})
    if "pixel_values_videos" in names:
        video = zeros(1, frames, channels, height, width)
        if "pixel_values" not in names:
            found.append({"pixel_values_videos": video})
    return found


def _image_size(config: PretrainedConfig, default: int) -> tuple[int, int]:
    size = _setting(config, "image_size", "img_size", "pretrain_image_size", default=default)
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    if isinstance(size, int):
        return size, size
    return int(size[-2]), int(size[-1])


def _sound(model: PreTrainedModel, names: set[str]) -> Values:
    """Silence, as samples or as features of frames in either order."""
    zeros = partial(torch.zeros, device=model.device, dtype=model.dtype)
    named = _setting(model.config, *_BINS, default=80)
    positions = _setting(model.config, "max_source_positions")
    frames = [2 * positions, _FRAMES] if isinstance(positions, int) else [_FRAMES]
    if isinstance(factor := _setting(model.config, "downsample_factor"), int) and "input_ids" in names:
        frames.insert(0, 2 * factor * TOKENS)  # convolutions halve them, then each is a token
    found: Values = []
    for name in ("input_features", "audio_mel"):
        if name in names:
            orders = [((bins, count), (count, bins)) for bins in dict.fromkeys((named, 80, 128)) for count in frames]
            found += [{name: zeros(1, *shape)} for order in orders for shape in order]
    if "input_values" in names and not found:
        length = _setting(model.config, "max_length", default=_FRAMES)
        shapes = ((1, _SAMPLES), (1, 1, _SAMPLES), (1, length, named))
        found += [{"input_values": zeros(*shape)} for shape in shapes]
    return found


def _other(model: PreTrainedModel, names: set[str]) -> Values:
    """Boxes of words, and of what was seen in an image; and which words see one."""
    made: dict[str, Any] = {}
    if "image_attention_mask" in names and "pixel_values" in names:
        made["image_attention_mask"] = torch.ones(1, TOKENS, 1, dtype=torch.long, device=model.device)
    for name, setting in (("visual_feats", "visual_feat_dim"), ("visual_pos", "visual_pos_dim")):
        if name in names:
            made[name] = torch.zeros(1, _BOXES, _setting(model.config, setting), device=model.device, dtype=model.dtype)
    if "bbox" in names:
        made["bbox"] = torch.zeros(1, TOKENS, 4, dtype=torch.long, device=model.device)
    return [made] if made else []
