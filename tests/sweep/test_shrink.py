"""Small configurations: what fits in the large one has to fit in the small one."""

import pytest
from transformers import (
    BertConfig,
    BltConfig,
    CLIPConfig,
    DeepseekV3Config,
    Gemma3TextConfig,
    JambaConfig,
    LagunaConfig,
    MistralLarge4TextConfig,
    Qwen2VLConfig,
)

from adapterhub.sweep.shrink import VOCABULARY, parts, shrunk


def test_widths_keep_their_ratios() -> None:
    config = shrunk(DeepseekV3Config(), 8)
    assert config.hidden_size == DeepseekV3Config().hidden_size // 8
    assert config.qk_nope_head_dim + config.qk_rope_head_dim == config.qk_head_dim
    assert config.num_attention_heads == DeepseekV3Config().num_attention_heads
    assert config.n_routed_experts == 4 and config.num_experts_per_tok == 2 and config.num_hidden_layers <= 4


def test_towers_shrink_together() -> None:
    config = shrunk(CLIPConfig(), 8)
    for part in (config.text_config, config.vision_config):
        assert part.num_hidden_layers == 2 and part.hidden_size % part.num_attention_heads == 0
    assert config.vision_config.image_size == 4 * config.vision_config.patch_size


def test_the_configuration_given_stays_as_it_is() -> None:
    config = BertConfig()
    shrunk(config, 8)
    assert config.to_dict() == BertConfig().to_dict()


def test_tokens_stay_in_the_vocabulary_and_apart() -> None:
    given = Qwen2VLConfig()
    config = shrunk(given, 8)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = [getattr(config, name) for name in names]
    assert len({getattr(given, name) for name in names}) == len(set(ids))
    assert all(0 <= token < config.text_config.vocab_size == VOCABULARY for token in ids)


def test_every_kind_of_layer_is_kept() -> None:
    config = shrunk(Gemma3TextConfig(), 8)
    assert set(config.layer_types) == set(Gemma3TextConfig().layer_types)
    assert len(config.layer_types) == config.num_hidden_layers <= 4
    assert len(set(shrunk(JambaConfig(), 8).layers_block_type)) == 2


def test_lists_over_layers_that_count_no_layers_are_kept() -> None:
    heads = shrunk(LagunaConfig(), 8).num_attention_heads_per_layer
    assert set(heads) == set(LagunaConfig().num_attention_heads_per_layer)
    config = shrunk(MistralLarge4TextConfig(), 8)
    assert config.kv_source_layers == list(range(config.num_hidden_layers))


def test_every_vocabulary_is_cut_and_widths_of_one_name_together() -> None:
    config = shrunk(BltConfig(), 8)
    assert config.encoder_hash_byte_group_vocab == VOCABULARY
    assert config.decoder_config.hidden_size_global == BltConfig().decoder_config.hidden_size_global // 8


def test_channels_that_time_height_and_width_turn_are_those_of_a_head() -> None:
    text = shrunk(Qwen2VLConfig(), 8).text_config
    head = text.hidden_size // text.num_attention_heads
    assert sum(text.rope_parameters["mrope_section"]) == head // 2


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_parts_are_all_configurations_inside(scale: int) -> None:
    assert {type(part).__name__ for part in parts(shrunk(CLIPConfig(), scale))} >= {
        "CLIPTextConfig",
        "CLIPVisionConfig",
    }
