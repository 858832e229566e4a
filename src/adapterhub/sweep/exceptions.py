"""The few architectures whose default configuration cannot be used as it is: model type -> settings to make it with."""

from typing import Any

_IMAGES = {"vocabulary_map": {"<image>": 4, "IMGIMGAA": 5, "IMGIMGBB": 6, "<|extra_200|>": 7}}
_SERIES = {"prediction_length": 4, "context_length": 8}

_ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
_ROPE_3D = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [22, 22, 20]}
_INDEXER = {
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "autoformer": _SERIES,
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 12}},
    "chameleon": _IMAGES,
    "cohere_compass": {"text_config": {"rope_parameters": _ROPE}},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8.0}},
    "emu3": _IMAGES,
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": _ROPE_3D}},
    "granite4_vision": {"downsample_rate": "1/2", "deepstack_layer_map": [(-1, 0)], "spatial_target_layers": [1]},
    "informer": _SERIES,
    "moonshine_streaming": {"num_key_value_heads": 8},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "step3p7": {"text_config": {"sliding_window": 8}},
    "t5gemma2_encoder": {"text_config": {"dropout_rate": 0.0}},
    "time_series_transformer": _SERIES,
    "tvp": {"max_img_size": 64, "num_frames": 4},
    "xmod": {"default_language": "en_XX"},
}
