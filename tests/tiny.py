"""Tiny random models of every family that works from the first day, for the tests."""

from collections.abc import Mapping

import torch
import transformers as tf
from transformers import PreTrainedModel

from adapterhub.composition import Composition

_TEXT = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENCODER = _TEXT | {"intermediate_size": 37, "max_position_embeddings": 64}
_LLAMA = _ENCODER | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
_DEBERTA = _ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 32}
_BART = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 37,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 16,
    "patch_size": 8,
}
_CLIP = {"text_config": _ENCODER | {"eos_token_id": 98}, "vision_config": _VISION, "projection_dim": 16}
_WHISPER = _BART | {"num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 64}

# family -> (prefix of the class names, settings of the configuration)
FAMILIES: dict[str, tuple[str, dict]] = {
    "bert": ("Bert", _ENCODER),
    "roberta": ("Roberta", _ENCODER | {"pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", _ENCODER | {"pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37},
    ),
    "albert": ("Albert", _ENCODER | {"embedding_size": 16}),
    "electra": ("Electra", _ENCODER | {"embedding_size": 16}),
    "deberta": ("Deberta", _DEBERTA),
    "deberta-v2": ("DebertaV2", _DEBERTA),
    "mpnet": ("MPNet", _ENCODER),
    "modernbert": ("ModernBert", _ENCODER | {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
    "gpt2": ("GPT2", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "llama": ("Llama", _LLAMA),
    "mistral": ("Mistral", _LLAMA),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen3": ("Qwen3", _LLAMA),
    "gemma": ("Gemma", _LLAMA),
    "gemma2": ("Gemma2", _LLAMA),
    "gemma3": ("Gemma3Text", _LLAMA),
    "phi": ("Phi", _ENCODER | {"pad_token_id": 0}),
    "phi3": ("Phi3", _LLAMA),
    "t5": ("T5", _T5),
    "mt5": ("MT5", _T5 | {"feed_forward_proj": "gated-gelu"}),
    "bart": ("Bart", _BART),
    "mbart": ("MBart", _BART),
    "marian": ("Marian", _BART),
    "m2m-100": ("M2M100", _BART),
    "vit": ("ViT", _VISION),
    "whisper": ("Whisper", _WHISPER),
    "clip": ("CLIP", _CLIP),
}
_EXPERTS = _LLAMA | {"intermediate_size": 24, "num_experts_per_tok": 2}
_DEEPSEEK = {
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
# Mixtures of experts: the same, for tests of their experts.
MIXTURES: dict[str, tuple[str, dict]] = {
    "mixtral": ("Mixtral", _EXPERTS | {"num_local_experts": 4}),
    "qwen3-moe": ("Qwen3Moe", _EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16}),
    "gpt-oss": ("GptOss", _EXPERTS | {"num_local_experts": 4}),
    "deepseek-v3": ("DeepseekV3", _EXPERTS | _DEEPSEEK),
}
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi", "phi3")
ENCODER_DECODERS = ("t5", "mt5", "bart", "mbart", "marian", "m2m-100", "whisper")


def config(family: str, **changes: object) -> tf.PretrainedConfig:
    """A tiny configuration of the family."""
    prefix, settings = (FAMILIES | MIXTURES)[family]
    return getattr(tf, f"{prefix}Config")(**(settings | changes))


def model(family: str, kind: str = "Model", seed: int = 0, **changes: object) -> PreTrainedModel:
    """A tiny random model in evaluation mode; ``kind`` is the rest of the class name (``ForMaskedLM``, ...)."""
    prefix, _ = (FAMILIES | MIXTURES)[family]
    torch.manual_seed(seed)
    made = getattr(tf, f"{prefix}{kind}")(config(family, **changes))
    with torch.no_grad():  # norms and biases start at 1 and 0, which would hide mistakes
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def inputs(family: str, batch: int = 3, length: int = 7, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random inputs for the family; the last row of text is padded by two tokens."""
    generator = torch.Generator().manual_seed(seed)

    def ids(columns: int) -> torch.Tensor:
        return torch.randint(3, 98, (batch, columns), generator=generator)

    images = torch.randn(batch, 3, 16, 16, generator=generator)
    if family == "vit":
        return {"pixel_values": images}
    if family == "whisper":
        features = torch.randn(batch, 8, 24, generator=generator)
        return {"input_features": features, "decoder_input_ids": ids(5)}
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, -2:] = 0
    text = {"input_ids": ids(length), "attention_mask": mask}
    if family == "clip":
        return text | {"pixel_values": images}
    return text | ({"decoder_input_ids": ids(5)} if family in ENCODER_DECODERS else {})


def output(model: PreTrainedModel, family: str) -> torch.Tensor:
    """The first tensor that a model gives for the inputs of its family."""
    outputs = model(**inputs(family))
    return next(value for value in outputs.to_tuple() if torch.is_tensor(value))


def randomise(model: PreTrainedModel, name: str, std: float = 0.3) -> None:
    """Give an adapter other values than those that it starts with."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.adapters[name].parameters():
            parameter.normal_(std=std, generator=generator)


def with_adapters(model: PreTrainedModel, methods: Mapping[str, str], fuse: Composition, std: float) -> None:
    """Add an adapter of each method by name, and a fusion, with values that change what the model gives."""
    for name, config in methods.items():
        model.add_adapter(name, config=config)
    model.add_adapter_fusion(fuse)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.fusions.parameters()):
            parameter.add_(std * torch.randn_like(parameter))
