"""Methods that compute something else than their equation."""

import adapters
import torch
import transformers as tf
from adapters.composition import Average, Fuse
from common import CONFIG, IDS, bottleneck, difference, model, run, shaken, tried


def average() -> str:
    made = model("a")
    one, mean = run(made, "a"), run(made, Average("a", "a"))
    return f"the average of an adapter with itself differs from it by {difference(one, mean)}"


def merged(config: object) -> str:
    made = model("a", config=config)
    unmerged = run(made, "a")
    made.merge_adapter("a")
    with torch.no_grad():  # activating it again would take it out
        return difference(made(IDS).last_hidden_state, unmerged)


def dora_merge() -> str:
    return f"DoRA with alpha 16, r 8, merged: the output changes by {merged(adapters.DoRAConfig(alpha=16))}"


def ia3_merge() -> str:
    return f"(IA)³ merged into layers with a bias: the output changes by {merged('ia3')}"


def dora_reset() -> str:
    made = model("a", config="dora")
    before = made.encoder.layer[0].attention.self.query.weight.clone()
    made.merge_adapter("a")
    made.reset_adapter()
    after = made.encoder.layer[0].attention.self.query.weight
    return f"DoRA merged and reset: the base's weights differ by {difference(before, after)}"


def vera_size() -> str:
    made = model("a", config="vera")
    trained = sum(p.numel() for key, p in made.named_parameters() if ".a." in key and "vera" in key)
    vectors = 2 * 2 * (8 + 16)
    return f"VeRA at q and v of two layers of width 16, r 8: {trained} trained values, {vectors} in the paper"


def gated_lora() -> str:
    found = []
    for alpha in (2, 16):
        made = model("a", config=adapters.LoRAConfig(r=2, alpha=alpha, use_gating=True))
        found.append(run(made, "a"))
    return f"gated LoRA with alpha 2 and 16: the outputs differ by {difference(*found)}"


def whole_scaling() -> str:
    return tried("scaling=4", lambda: model("a", config=adapters.ParBnConfig(scaling=4)) and "works")


def post_add() -> str:
    config = bottleneck(residual_before_ln="post_add")
    return tried("residual_before_ln='post_add' without a norm", lambda: run(model("a", config=config), "a").shape)


def temperature() -> str:
    made = model("a", "b")
    made.add_adapter_fusion(["a", "b"], config=adapters.DynamicAdapterFusionConfig(temperature=True))
    shaken(made)
    first = run(made, Fuse("a", "b"))
    for _ in range(100):
        last = run(made, Fuse("a", "b"))
    return f"a fusion with a temperature, in evaluation: the output drifts by {difference(first, last)} in 100 calls"


def prefix_sdpa() -> str:
    outputs = []
    for implementation in ("eager", "sdpa"):
        torch.manual_seed(0)
        config = tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, attn_implementation=implementation)
        made = tf.GPT2Model(config)
        adapters.init(made)
        made.add_adapter("a", config=adapters.PrefixTuningConfig(flat=True, prefix_length=3))
        outputs.append(run(made.eval(), "a"))
    return f"prefix tuning on GPT-2: eager and sdpa differ by {difference(*outputs)}"


def grouped_prefix() -> str:
    torch.manual_seed(0)
    made = tf.LlamaModel(tf.LlamaConfig(**(CONFIG | {"num_attention_heads": 4}), num_key_value_heads=2))
    adapters.init(made)
    made.add_adapter("a", config="prefix_tuning")
    return tried("eject_prefix_tuning with two heads of keys for four", lambda: made.eject_prefix_tuning("a"))


def prefix_leaves_out() -> str:
    """The first layer of T5 makes the position bias of all."""
    torch.manual_seed(0)
    made = tf.T5Model(tf.T5Config(d_model=16, d_kv=8, d_ff=20, num_layers=3, num_heads=2, vocab_size=60))
    adapters.init(shaken(made))
    largest = []
    for name, left_out in (("all", []), ("some", [1])):
        config = adapters.PrefixTuningConfig(flat=True, prefix_length=3, leave_out=left_out)
        made.add_adapter(name, config=config, set_active=True)
        last = made.encoder.block[2].layer[0].SelfAttention
        handle = last.register_forward_hook(lambda _, args, output: largest.append(float(output[1].abs().max())))
        with torch.no_grad():
            made(input_ids=IDS, decoder_input_ids=IDS)
        handle.remove()
    with_all, with_some = largest
    return (
        f"a prefix of three layers of T5: the largest position bias in the third is {with_all:.1f}; "
        f"with leave_out=[1] it is {with_some:.1f}"
    )


def reft_decoding() -> str:
    torch.manual_seed(0)
    made = tf.GPT2Model(tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60))
    adapters.init(made)
    made.add_adapter("a", config=adapters.LoReftConfig(prefix_positions=1))
    whole = run(shaken(made), "a")
    with torch.no_grad():
        past = made(IDS[:, :5], use_cache=True).past_key_values
        last = made(IDS[:, 5:], past_key_values=past).last_hidden_state
    return f"ReFT at the first position: the last token after a cache differs by {difference(whole[:, 5:], last)}"


CHECKS = (
    average, dora_merge, ia3_merge, dora_reset, vera_size, gated_lora, whole_scaling, post_add,
    temperature, prefix_sdpa, grouped_prefix, prefix_leaves_out, reft_decoding,
)  # fmt: skip
