"""The few architectures whose default configuration cannot be used as it is: model type -> settings to make it with."""

from typing import Any

_IMAGES = {"vocabulary_map": {"<image>": 4, "IMGIMGAA": 5, "IMGIMGBB": 6, "<|extra_200|>": 7}}
_SERIES = {"prediction_length": 4, "context_length": 8}

_ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}

SETTINGS: dict[str, dict[str, Any]] = {
    "autoformer": _SERIES,
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 12}},
    "chameleon": _IMAGES,
    "cohere_compass": {"text_config": {"rope_parameters": _ROPE}},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "emu3": _IMAGES,
    "informer": _SERIES,
    "qwen4_exp": {"text_config": {"token_budget": 8, "compress_ratio": 2}},
    "qwen4_exp_text": {"token_budget": 8, "compress_ratio": 2},
    "time_series_transformer": _SERIES,
    "xmod": {"default_language": "en_XX"},
}
