"""Models whose own maths `adapters` changes, and parts of it that run on none."""

import adapters
import torch
import transformers as tf
from common import CONFIG, IDS, bottleneck, difference, model, run, shaken, tried


def glow() -> str:
    made = model("a", config=adapters.SeqBnConfig(inv_adapter="glow", inv_adapter_reduction_factor=2))
    return tried("an invertible adapter of the kind glow", lambda: run(made, "a").shape)


def changed(name: str, **options: object) -> str:
    """What ``adapters.init`` alone changes in the output of a model."""
    torch.manual_seed(0)
    made = shaken(getattr(tf, f"{name}Model")(getattr(tf, f"{name}Config")(**CONFIG, **options)))
    if name == "ModernBert":
        made.set_attn_implementation("eager")
    with torch.no_grad():
        bare = made(IDS).last_hidden_state
        adapters.init(made)
        return difference(made(IDS).last_hidden_state, bare)


def init_deberta() -> str:
    return f"adapters.init without any adapter: the output of DeBERTa changes by {changed('Deberta')}"


def init_modernbert() -> str:
    return f"adapters.init without any adapter: that of ModernBERT by {changed('ModernBert', pad_token_id=0)}"


def albert_attention() -> str:
    torch.manual_seed(0)
    made = tf.AlbertModel(tf.AlbertConfig(**CONFIG, embedding_size=16))
    adapters.init(made)
    made.add_adapter("a", config=bottleneck(mh_adapter=True, output_adapter=False))
    attention = made.encoder.albert_layer_groups[0].albert_layers[0].attention
    of_adapter, of_attention = [], []
    attention.attention_adapters.adapters["a"].register_forward_pre_hook(lambda _, args: of_adapter.append(args[0]))
    attention.register_forward_pre_hook(lambda _, args: of_attention.append(args[0]))
    run(made.eval(), "a")
    what = "what attention reads" if torch.equal(of_adapter[0], of_attention[0]) else "what attention gives"
    return f"the adapter after attention in ALBERT adapts {what}"


def prefix_of_beit() -> str:
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    made = tf.BeitModel(tf.BeitConfig(**size, image_size=8, patch_size=4, use_relative_position_bias=True)).eval()
    adapters.init(made)
    made.add_adapter("a", config=adapters.PrefixTuningConfig(flat=True, prefix_length=3), set_active=True)
    return tried("a prefix on a BEiT with relative positions", lambda: made(torch.ones(2, 3, 8, 8))[0].shape)


CHECKS = (glow, init_deberta, init_modernbert, albert_attention, prefix_of_beit)
