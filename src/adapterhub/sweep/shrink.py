"""A small configuration of any architecture, made from its default one: what is large in it is divided.

Widths are all divided by one number, so what has to fit (a hidden size and its heads, a tower and what projects into
it) still does. Layers become as few as show every kind of them; vocabularies, experts and positions are cut, and the
ids of special tokens move into what is left of the vocabulary.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PretrainedConfig

VOCABULARY = 128
_POSITIONS, _FRAMES, _EXPERTS, _CHOSEN, _KINDS = 512, 128, 4, 2, 4

_WIDTH = re.compile(
    r"(^|_)(hidden|dims?|dimension|width|rank|units|channels?|d_model|d_ff|d_kv|d_inner|d_head|d_state|d_rel|d_latents"
    r"|n_embd|n_inner|embed|embed_dims?|inner|ffn|emb_size|linear_units|sizes|size|section|scalar|headdim|dim_per_stage"
    r"|channel_list|num_features|num_pos_feats|num_filters|mult_of)($|_per_stage$|_global$)"
)
_NO_WIDTH = re.compile(
    r"vocab|image|patch|kernel|window|position|grid|chunk|codebook_size|pool_size|merge|batch|block_size|cache|memory_s"
    r"|conv_stride|size_divisor|num_channels|crop|max|roi|scale|stride|feature_sizes|feat_sizes|background"
    r"|train_size|img_size|frequency|_frames|point|hop|entity|input_size|feature_size|label|context_size"
    r"|buffer|segment|num_mel|fft|head_out_channels|sample|freq|extent|audio_channels|group_size|expert_group"
)
_LAYERS = re.compile(
    r"^((\w+_)?(num|n)_)?(\w+_)?(layers?|blocks|depth)$|^depths$|^depth$|^num_hidden_layers$|^blocks_per_stage$"
    r"|^num_self_attends_per_block$"
)
_NO_LAYERS = re.compile(
    r"kv_shared|feat_extract|adapter|conv|upsampl|resid|dense|predict|lstm|res_blocks|feature_layer|random|lqe|prompt"
    r"|cross_attention_layers|subsample_layers|interval|codec|divisor|encode_proj|attn_layers|first|last|stacked|rope"
    r"|sparse|max_depth|iou|swap|noise|postnet|prenet|norm_|attention_blocks|proj_layers|_layers_ind|per_layer|source"
)
_INDICES = re.compile(r"ind(ex|ic)es|layer_ids|(^|_)layers$|global_attention_blocks|attn_indexes|_indexes")
_TOKEN = re.compile(r"token(_id|_index)?s?$|_token_ids?$|(image|video|audio|eo[ia]|bo[ia])_\w*(id|index)$")
_PERIODS = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "num_kv_shared_layers": 0,
    "cross_attention_interval": 2,
    "num_nextn_predict_layers": 0,
}


def shrunk(config: PretrainedConfig, scale: int) -> PretrainedConfig:
    """A copy of ``config`` with its widths divided by ``scale``, and all else that is large cut."""
    small = copy.deepcopy(config)
    tokens = _Tokens(VOCABULARY)
    for part in parts(small):
        _fill(part)
        _cut_layers(part)
        _cut_image(part)
        for name, value in list(vars(part).items()):
            new = _cut(name, value, scale, tokens)
            if new is not value:
                _set(part, name, new)
    return small


def parts(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """A configuration and all that stand in it, at any depth."""
    yield config
    for value in vars(config).values():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, PretrainedConfig):
                yield from parts(one)


class _Tokens:
    """New ids for tokens outside of the vocabulary, the last ones of it; equal ones stay equal."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.known: dict[int, int] = {}

    def __call__(self, token: int) -> int:
        if token < self.size - 28:  # the last ones are for those that move
            return token
        return self.known.setdefault(token, self.size - 1 - len(self.known))


def _fill(config: PretrainedConfig) -> None:
    """Settings that are left open, for a checkpoint to say."""
    known = vars(config)
    heads, width, layers = (known.get(name) for name in ("num_attention_heads", "hidden_size", "num_hidden_layers"))
    open_ones: dict[str, Any] = {"vocab_size": VOCABULARY, "num_experts": _EXPERTS, "n_routed_experts": _EXPERTS}
    open_ones |= {"n_shared_experts": 1}
    open_ones |= dict.fromkeys(("num_experts_per_tok", "top_k_experts", "moe_top_k"), _CHOSEN)
    if isinstance(heads, int) and isinstance(width, int) and heads:
        open_ones |= {"num_key_value_heads": heads, "head_dim": width // heads, "moe_intermediate_size": width}
    if isinstance(layers, int):
        open_ones |= {"layer_types": ["full_attention"] * layers}
        open_ones |= {"mlp_layer_types": ["dense"] * (layers // 2) + ["sparse"] * (layers - layers // 2)}
    for name, value in open_ones.items():
        if known.get(name, value) is None:
            _set(config, name, value)
    layer = known.get("vision_feature_layer")
    if isinstance(layer, int) and layer < 0:
        _set(config, "vision_feature_layer", -1)  # in small models too every layer is to be read
    rope = known.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope and "mrope_section" not in rope:
        # The code of some models has a default for the channels that time, height and width turn.
        head = known.get("head_dim") or (width // heads if isinstance(width, int) and heads else 0)
        half = int(head * rope.get("partial_rotary_factor", known.get("partial_rotary_factor") or 1.0)) // 2
        _set(config, "rope_parameters", rope | {"mrope_section": [half - 2 * (half * 3 // 8), *[half * 3 // 8] * 2]})


def _cut_image(config: PretrainedConfig) -> None:
    """Images of a few patches, where nothing else in a tower is bound to their number."""
    size, patch = (vars(config).get(name) for name in ("image_size", "patch_size"))
    bound = any(name in vars(config) for name in ("depths", "num_patches", "stem_strides"))
    patches = 4 if vars(config).get("window_size") is None else 16
    if isinstance(size, int) and isinstance(patch, int) and size > patches * patch and not bound:
        _set(config, "image_size", patches * patch)


def _cut(name: str, value: Any, scale: int, tokens: _Tokens) -> Any:
    """The value that the attribute ``name`` is to have."""
    if isinstance(value, bool) or name.startswith("_name"):
        return value
    if isinstance(value, dict):
        return _cut_rope(value, scale) if "rope" in name else value
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
            return type(value)(_cut(name, one, scale, tokens) for one in value)
        return value
    if not isinstance(value, int):
        return value
    return _number(name, value, scale, tokens)


def _number(name: str, value: int, scale: int, tokens: _Tokens) -> int:
    if name == "num_hidden_layers":  # of which those are left that tell every kind of layer
        return value
    if name in _PERIODS:
        return min(value, _PERIODS[name])
    if name == "upsample_groups":  # one for each channel
        return max(1, value // scale)
    if ("expert" in name and "size" not in name and "dim" not in name) or name in ("moe_topk", "moe_k", "n_group"):
        return _experts(name, value)
    if name == "topk_group":
        return min(value, 1)
    if _TOKEN.search(name):
        return tokens(value) if value >= 0 else value
    if "vocab_size" in name or name.endswith("vocab"):
        return min(value, VOCABULARY)
    if name in ("max_source_positions", "max_target_positions"):
        return min(value, _FRAMES)
    if re.search(r"(^|_)n_positions$|max_(seq_len|position_embeddings)$", name):
        return min(value, _POSITIONS)
    if _LAYERS.search(name) and not _NO_LAYERS.search(name):
        return min(value, 2)
    if _WIDTH.search(name) and not _NO_WIDTH.search(name) and value >= 16:
        return _divided(value, scale)
    return value


def _divided(value: int, scale: int) -> int:
    """Large widths are whole fours, which some kernels need."""
    small = max(1, round(value / scale))
    return small if small < 64 else small - small % 4


def _experts(name: str, value: int) -> int:
    if "group" in name:
        return min(value, 1)
    chosen = "per_tok" in name or "topk" in name or "top_k" in name or name == "moe_k"
    return min(value, _CHOSEN if chosen else _EXPERTS)


def _cut_rope(values: dict[str, Any], scale: int) -> dict[str, Any]:
    """Lists over the channels of a head become as much shorter as a head does."""
    new = dict(values)
    for name, value in values.items():
        if isinstance(value, dict):
            new[name] = _cut_rope(value, scale)
        elif isinstance(value, (list, tuple)) and "section" in name:
            new[name] = _sections(value, scale)
        elif isinstance(value, (list, tuple)) and "factor" in name:
            new[name] = list(value[: max(1, len(value) // scale)])
    return new


def _sections(sizes: Sequence[int], scale: int) -> list[int]:
    """Sizes divided, with the sum divided too."""
    ends = [round(sum(sizes[: index + 1]) / scale) for index in range(len(sizes))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _cut_layers(config: PretrainedConfig) -> None:
    """Keep two layers, or one of each kind where lists over the layers tell more than two kinds."""
    count = vars(config).get("num_hidden_layers")
    if not isinstance(count, int) or isinstance(count, bool) or count <= 2:
        return
    lists = {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, (list, tuple)) and len(value) == count and not name.startswith("_out")
    }
    kinds: dict[str, list[int]] = {}
    for index in range(count):
        kinds.setdefault(str([value[index] for value in lists.values()]), []).append(index)
    each = 2 if len(kinds) < 3 else 1
    chosen = sorted(index for indices in list(kinds.values())[:_KINDS] for index in indices[:each])
    for name, value in lists.items():
        _set(config, name, type(value)(value[index] for index in chosen))
    for name, value in list(vars(config).items()):
        if name == "stage_names" and len(value) == count + 1:
            _set(config, name, value[: len(chosen) + 1])
        elif name == "_out_indices" and len(vars(config).get("stage_names") or ()) > len(chosen):
            outputs = sorted({min(index, len(chosen)) for index in value})
            _set(config, name, outputs)
            _set(config, "_out_features", [f"stage{index}" for index in outputs])
        elif isinstance(value, (list, tuple)) and _INDICES.search(name) and name not in (*lists, "_out_indices"):
            _set(config, name, _within(value, chosen, count))
    _set(config, "num_hidden_layers", len(chosen))


def _within(indices: Any, chosen: list[int], before: int) -> Any:
    """Indices of layers, of those that are left: where these now stand, or else the last one."""
    if not all(type(index) is int and -before <= index <= before for index in indices):
        return indices
    kept = [chosen.index(index) for index in indices if index in chosen]
    last = len(chosen) - 1
    moved = {min(index, last) if index >= 0 else max(index, -len(chosen)) for index in indices}
    return type(indices)(kept or sorted(moved))


def _set(config: PretrainedConfig, name: str, value: Any) -> None:
    config.__dict__[name] = value
