"""Compositions that do not run, or mean something else."""

import json

import adapters
import torch
import transformers as tf
from adapters.composition import Average, BatchSplit, Fuse, Split, Stack
from common import CONFIG, IDS, difference, model, run, shaken, tried


def split() -> str:
    made = model("a", "b")
    return tried("Split of 4 positions over 6", lambda: run(made, Split("a", "b", splits=[2, 2])).shape)


def lora_stack() -> str:
    made = model("a", "b", config=adapters.LoRAConfig(intermediate_lora=True))
    return tried("a Stack of two LoRAs at a weight that is not square", lambda: run(made, Stack("a", "b")).shape)


def fused_lora() -> str:
    made = model("a", "b", config="lora")
    return tried("a fusion of LoRAs", lambda: made.add_adapter_fusion(["a", "b"]) or run(made, Fuse("a", "b")).shape)


def reft_stack() -> str:
    made = model("a", "b", config="loreft")
    return f"Stack('a', 'b') of two ReFTs differs from 'a' by {difference(run(made, Stack('a', 'b')), run(made, 'a'))}"


def depth() -> str:
    deep = Stack("a", Average("a", Stack("b", Average("a", "b"))))
    return tried("Stack(a, Average(a, Stack(b, Average(a, b))))", lambda: adapters.parse_composition(deep))


def unlike_prefixes() -> str:
    made = model()
    for name, length in (("a", 3), ("b", 5)):
        made.add_adapter(name, config=adapters.PrefixTuningConfig(flat=True, prefix_length=length))
    shaken(made)
    mixed, alone = run(made, BatchSplit("a", "b", batch_sizes=[1, 1])), run(made, "a")
    return (
        f"prefixes of lengths 3 and 5 in one batch: the row of the shorter differs by {difference(mixed[0], alone[0])}"
    )


def union_of_loras() -> str:
    parts = adapters.LoRAConfig(leave_out=[0]), adapters.LoRAConfig(r=4, leave_out=[1])
    return tried("a union of two LoRAs, in other layers", lambda: model("a", config=adapters.ConfigUnion(*parts)))


def union_that_shares() -> str:
    union = adapters.ConfigUnion(adapters.VeraConfig(r=2), adapters.CompacterPlusPlusConfig(reduction_factor=2))
    return tried("a union of VeRA and Compacter", lambda: run(model("a", config=union), "a").shape)


def fuse_name() -> str:
    return f"Fuse('a', 'b', name='mine') is written as {json.dumps(Fuse('a', 'b', name='mine').to_dict())}"


def setup_inverse() -> str:
    torch.manual_seed(0)
    made = adapters.BertAdapterModel(tf.BertConfig(**CONFIG))
    made.add_adapter("a", config="seq_bn_inv")
    made.add_masked_lm_head("a")
    shaken(made).set_active_adapters("a")
    with torch.no_grad():
        active = made(IDS).logits
        made.set_active_adapters(None)
        with adapters.AdapterSetup("a", head_setup="a"):
            in_setup = made(IDS).logits
    return f"an invertible adapter in an AdapterSetup: the logits differ by {difference(active, in_setup)}"


def norms_of_others() -> str:
    torch.manual_seed(0)
    made = tf.BertModel(tf.BertConfig(**CONFIG))
    interface = adapters.AdapterModelInterface(
        adapter_methods=["bottleneck"],
        model_embeddings="embeddings",
        model_layers="encoder.layer",
        layer_self_attn="attention",
        layer_cross_attn=None,
        attn_o_proj="output.dense",
        attn_q_proj="self.query",
        attn_k_proj="self.key",
        attn_v_proj="self.value",
        layer_intermediate_proj="intermediate.dense",
        layer_output_proj="output.dense",
        layer_pre_self_attn="attention",
        layer_pre_ffn="intermediate",
        layer_ln_1="attention.output.LayerNorm",
        layer_ln_2="output.LayerNorm",
    )
    adapters.init(made, interface=interface)
    made.add_adapter("a", config="seq_bn")
    calls = [0] * CONFIG["num_hidden_layers"]
    for index, layer in enumerate(made.encoder.layer):
        layer.output.LayerNorm.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    run(made.eval(), "a")
    return f"a described model: the norms of the two layers, each to be used twice, are used {calls} times"


def cross_attention() -> str:
    config = tf.BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=20, decoder_ffn_dim=20, vocab_size=60, max_position_embeddings=20,
    )  # fmt: skip
    made = tf.BartModel(config)
    interface = adapters.AdapterModelInterface(
        adapter_methods=["bottleneck"],
        model_embeddings="shared",
        model_layers="decoder.layers",
        layer_self_attn="self_attn",
        layer_cross_attn="encoder_attn",
        attn_o_proj="out_proj",
        attn_q_proj="q_proj",
        attn_k_proj="k_proj",
        attn_v_proj="v_proj",
        layer_intermediate_proj="fc1",
        layer_output_proj="fc2",
    )
    adapters.init(made, interface=interface)
    made.add_adapter("a", config="double_seq_bn")
    where = sorted(
        {key.partition(".adapters.")[0].split(".")[-1] for key, _ in made.named_parameters() if ".a." in key}
    )
    return f"double_seq_bn on a described decoder with cross-attention is only at {where}"


CHECKS = (
    split, lora_stack, fused_lora, reft_stack, depth, unlike_prefixes, union_of_loras, union_that_shares, fuse_name,
    setup_inverse, norms_of_others, cross_attention,
)  # fmt: skip
