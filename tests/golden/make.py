"""Writes the golden files: what ``adapters`` 1.3.0 and PEFT 0.21.2 compute on tiny random models.

Runs in the environment of the peers (``scripts/peer-env``): ``.venv-peers/bin/python tests/golden/make.py``.
"""

import json
from pathlib import Path

import adapters
import peft
import torch
import transformers as tf
from adapters import BnConfig
from safetensors.torch import save_file

HERE = Path(__file__).parent
HIDDEN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
ENCODER = HIDDEN | {"vocab_size": 60, "max_position_embeddings": 20}
ARCHITECTURES = {
    "bert": ("Bert", ENCODER),
    "roberta": ("Roberta", ENCODER | {"pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20, "max_position_embeddings": 20},
    ),
    "gpt2": ("GPT2", {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}),
    "t5": ("T5", {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2}),
    "bart": (
        "Bart",
        {
            "vocab_size": 60,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20,
            "max_position_embeddings": 20,
        },
    ),
}
# Of which there is the bare model alone.
BARE = {"llama": ("Llama", HIDDEN | {"vocab_size": 60, "num_key_value_heads": 1, "max_position_embeddings": 20})}
CONFIGS = {
    "seq_bn": {"original_ln_before": True},
    "double_seq_bn": {"mh_adapter": True, "non_linearity": "swish"},
    "par_bn": {"is_parallel": True, "scaling": 4.0, "init_weights": "mam_adapter"},
}
BASE = {"mh_adapter": False, "output_adapter": True, "reduction_factor": 2, "non_linearity": "relu"}
# Options one by one, on a model with the norm after and one with the norm before its sublayers.
VARIANTS = {
    "ln_after": {"ln_after": True},
    "ln_after_residual_inside": {"ln_after": True, "adapter_residual_before_ln": True},
    "residual_after_ln": {"original_ln_before": True, "residual_before_ln": False},
    "residual_post_add": {"original_ln_before": True, "residual_before_ln": "post_add"},
    "scaling_learned": {"scaling": "learned"},
    "scaling_channel": {"scaling": "channel"},
    "gating": {"use_gating": True},
    "no_ln_after": {"original_ln_before": True, "original_ln_after": False, "residual_before_ln": False},
    "no_ln_after_residual": {"original_ln_before": True, "original_ln_after": False},
    "parallel_ln_after": {"is_parallel": True, "ln_after": True, "scaling": 2.0},
    "cross": {"cross_adapter": True, "mh_adapter": True},
    "gelu": {"non_linearity": "gelu"},
    "leave_out": {"leave_out": [0], "mh_adapter": True},
    "ln_before": {"ln_before": True},
    "sizes_by_layer": {"reduction_factor": {"0": 4, "default": 2}},
    "adapter_plus": {
        "original_ln_before": True,
        "original_ln_after": False,
        "residual_before_ln": False,
        "scaling": "channel",
        "non_linearity": "gelu",
    },
    "stack": {"original_ln_before": True, "mh_adapter": True},
}
# What acts on weights: options in our words, in those of ``adapters``, and in those of PEFT. A peer that has no words
# for one is left out. PEFT is told of modules: q and v of BERT and T5, and the fused weight of GPT-2.
WEIGHTS = {
    "lora": ({"r": 3, "alpha": 6}, {"r": 3, "alpha": 6}, {"r": 3, "lora_alpha": 6}),
    "lora_gated": ({"r": 2, "alpha": 2, "use_gating": True}, {"r": 2, "alpha": 2, "use_gating": True}, None),
    "lora_rs": ({"r": 4, "alpha": 6, "use_rslora": True}, None, {"r": 4, "lora_alpha": 6, "use_rslora": True}),
    "dora": ({"r": 3, "alpha": 6, "use_dora": True}, None, {"r": 3, "lora_alpha": 6, "use_dora": True}),
    "lora_feed_forward": (
        {"r": 3, "alpha": 3, "intermediate_lora": True, "output_lora": True},
        {"r": 3, "alpha": 3, "intermediate_lora": True, "output_lora": True},
        None,
    ),
}
MODULES = {"bert": ["query", "value"], "t5": ["q", "v"], "gpt2": ["c_attn"]}
IA3 = {  # all modules, and those of the feed-forward among them
    "bert": (r".*layer\.\d\.(output\.dense|.*(key|value))", r".*layer\.\d\.output\.dense"),
    "t5": (r".*\.(k|v|wo)", r".*\.wo"),
}
NAMED = ("seq_bn", "pfeiffer", "double_seq_bn", "houlsby", "par_bn", "scaled_par_bn")
VARIANTS_ON = {"bert": VARIANTS, "gpt2": VARIANTS, "bart": {name: VARIANTS[name] for name in ("cross", "leave_out")}}


def randomise(parameters, std):
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=std)


def inputs(name):
    ids = torch.randint(3, 59, (3, 6), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if name in ("t5", "bart"):
        given["decoder_input_ids"] = torch.randint(3, 59, (3, 4), generator=torch.Generator().manual_seed(4))
    return given


def build(name):
    prefix, settings = (ARCHITECTURES | BARE)[name]
    torch.manual_seed(0)
    model = getattr(tf, f"{prefix}Model")(getattr(tf, f"{prefix}Config")(**settings))
    for parameter in model.parameters():
        if parameter.dim() == 1:
            with torch.no_grad():
                parameter.add_(0.2 * torch.randn_like(parameter))
        else:
            randomise([parameter], 0.15)
    return model.eval()


def run(model, given):
    outputs = model(**given)
    return outputs.last_hidden_state


def golden(name, label, options):
    model, given = build(name), inputs(name)
    adapters.init(model)
    names = ["a", "b"] if label == "option_stack" else ["a"]
    for adapter in names:
        model.add_adapter(adapter, config=BnConfig(**(BASE | options)))
    model.train_adapter(adapters.Stack(*names))
    model.eval()
    own = {key: value for key, value in model.named_parameters() if ".a." in key or ".b." in key}
    torch.manual_seed(7)
    randomise(own.values(), 0.3)
    output = run(model, given)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    (output * weight).sum().backward()
    tensors = {f"adapter/{key}": value for key, value in own.items()}
    tensors |= {f"gradient/{key}": value.grad for key, value in own.items() if value.grad is not None}
    tensors |= {"output": output, "weight": weight}
    save(f"{name}-{label}", tensors, {"config": BASE | options, "stack": names})


def golden_weights(name, label, ours, theirs, peer):
    """What a method at weights gives, by ``adapters`` or by PEFT."""
    model, given = build(name), inputs(name)
    if peer == "adapters":
        adapters.init(model)
        model.add_adapter("a", config=adapters.LoRAConfig(**theirs))
        model.train_adapter("a")
    else:
        model = peft.get_peft_model(model, theirs, adapter_name="a")
    model.eval()
    own = {key: value for key, value in model.named_parameters() if value.requires_grad}
    torch.manual_seed(7)
    with torch.no_grad():
        for value in own.values():
            value.add_(0.3 * torch.randn_like(value))
    output = run(model, given)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    (output * weight).sum().backward()
    tensors = {f"adapter/{key}": value for key, value in own.items()}
    tensors |= {f"gradient/{key}": value.grad for key, value in own.items()}
    save(f"weights/{name}-{label}-{peer}", tensors | {"output": output, "weight": weight}, {"config": ours})


def all_golden_weights():
    (HERE / "weights").mkdir(exist_ok=True)
    for label, (ours, of_adapters, of_peft) in WEIGHTS.items():
        ours = {"method": "lora"} | ours
        for name in ("bert", "gpt2", "t5", "bart"):
            if of_adapters is not None:
                golden_weights(name, label, ours, of_adapters, "adapters")
            if of_peft is not None and name in MODULES:
                modules = MODULES[name]
                theirs = peft.LoraConfig(**of_peft, target_modules=modules, fan_in_fan_out=name == "gpt2")
                golden_weights(name, label, ours | {"target_modules": modules}, theirs, "peft")
    for name, (modules, feed_forward) in IA3.items():
        theirs = peft.IA3Config(target_modules=modules, feedforward_modules=feed_forward)
        golden_weights(name, "ia3", {"method": "ia3"}, theirs, "peft")


TASKS = [0, 1, 0]


def golden_tasks(name, options):
    """MTL-LoRA for two tasks that share what they can, each with its rows of the batch."""
    model, given = build(name), inputs(name)
    adapters.init(model)
    for adapter in "ab":
        model.add_adapter(adapter, config=adapters.MTLLoRAConfig(**options))
    model.share_parameters(["a", "b"])
    model.train_adapter(adapters.MultiTask("a", "b"))
    model.eval()
    torch.manual_seed(7)
    own = {key: value for key, value in model.named_parameters(remove_duplicate=False) if ".loras." in key}
    with torch.no_grad():
        for value in {id(value): value for value in own.values()}.values():
            value.add_(0.3 * torch.randn_like(value))
    output = model(**given, task_ids=torch.tensor(TASKS)).last_hidden_state
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    (output * weight).sum().backward()
    tensors = {f"adapter/{key}": value for key, value in own.items()}
    tensors |= {f"gradient/{key}": value.grad for key, value in own.items()}
    save(f"tasks/{name}-mtl_lora", tensors | {"output": output, "weight": weight}, {"config": options, "tasks": TASKS})


FUSIONS = {
    "dynamic": {},
    "static": {},
    "dynamic_late_values": {"value_before_softmax": False},
    "dynamic_query_before_ln": {"query_before_ln": True},
    "dynamic_residual": {"residual_before": True},
}


def golden_fusion(name, label, options):
    """AdapterFusion over two adapters, and what it adds to the loss."""
    model, given = build(name), inputs(name)
    adapters.init(model)
    for adapter in "ab":
        model.add_adapter(adapter, config=BnConfig(**(BASE | CONFIGS["seq_bn"])))
    config = adapters.AdapterFusionConfig.load(label.split("_")[0], **options)
    model.add_adapter_fusion(["a", "b"], config)
    model.train_adapter_fusion([["a", "b"]])
    model.eval()
    torch.manual_seed(7)
    own = {key: value for key, value in model.named_parameters() if "adapter" in key}
    with torch.no_grad():
        for value in own.values():
            value.add_(0.3 * torch.randn_like(value))
    outputs = model(**given, output_adapter_fusion_attentions=True)
    output, added = outputs.last_hidden_state, model.get_fusion_regularization_loss()
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    (output * weight).sum().backward()
    tensors = {f"adapter/{key}": value for key, value in own.items()}
    tensors |= {f"gradient/{key}": value.grad for key, value in own.items() if value.grad is not None}
    for layer, found in outputs.adapter_fusion_attentions["a,b"].items():
        for place, attention in found.items():
            tensors[f"attention/{layer}.{place}"] = torch.tensor(attention)
    tensors |= {"output": output, "weight": weight}
    tensors |= {"added": added} if isinstance(added, torch.Tensor) else {}
    save(f"fusions/{name}-{label}", tensors, {"config": config.to_dict()})


# Whole checkpoints, as PEFT writes them, on BERT with a classifier.
CHECKPOINTS = {
    "plain": {"target_modules": ["query", "value"], "r": 3, "lora_alpha": 6},
    "patterns": {
        "target_modules": ["query", "value", "output.dense"],
        "r": 3,
        "lora_alpha": 6,
        "use_rslora": True,
        "rank_pattern": {"query": 2, "bert.encoder.layer.1.attention.self.value": 5},
        "alpha_pattern": {"value": 10},
    },
    "everything": {"target_modules": "all-linear", "r": 2, "lora_bias": True, "modules_to_save": ["classifier"]},
    "expression": {"target_modules": r".*layer\.1\..*(query|dense)", "r": 2, "use_dora": True},
    "embedding": {"target_modules": ["word_embeddings", "value"], "r": 2, "lora_alpha": 4},
    "pissa": {"target_modules": ["query", "value"], "r": 3, "lora_alpha": 6, "init_lora_weights": "pissa"},
    "changed_base": {"target_modules": ["query"], "r": 2, "init_lora_weights": "olora"},
    "biases": {"target_modules": ["query"], "r": 2, "bias": "lora_only"},
    "all_biases": {"target_modules": ["query"], "r": 2, "lora_alpha": 4, "bias": "all", "lora_bias": True},
    "some_layers": {"target_modules": ["query", "key"], "r": 2, "layers_to_transform": [1], "layers_pattern": "layer"},
    "tokens": {"target_modules": ["query"], "r": 2, "trainable_token_indices": {"word_embeddings": [3, 5, 40]}},
}
# And of its other methods, on BERT or GPT-2 with a classifier.
METHODS = {
    "ia3": ("bert", peft.IA3Config, {"target_modules": ["key", "value", "output.dense"]}),
    "gpt2_ia3": ("gpt2", peft.IA3Config, {}),
    "gpt2_lora": ("gpt2", peft.LoraConfig, {"target_modules": ["c_attn", "c_fc"], "r": 2, "fan_in_fan_out": True}),
    "vera": ("bert", peft.VeraConfig, {"target_modules": ["query", "intermediate.dense"], "r": 4}),
    "vera_drawn": ("bert", peft.VeraConfig, {"target_modules": ["value"], "r": 4, "save_projection": False}),
    "norms": ("bert", peft.LNTuningConfig, {"target_modules": ["LayerNorm"]}),
    "some_norms": ("gpt2", peft.LNTuningConfig, {"target_modules": ["ln_1", "ln_f"], "modules_to_save": ["score"]}),
    "gpt2_prefix": ("gpt2", peft.PrefixTuningConfig, {"num_virtual_tokens": 3}),
    "gpt2_prefix_net": (
        "gpt2",
        peft.PrefixTuningConfig,
        {"num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 5},
    ),
    "llama_prefix": ("llama", peft.PrefixTuningConfig, {"num_virtual_tokens": 3}),
    "prompt": ("bert", peft.PromptTuningConfig, {"num_virtual_tokens": 3}),
    "prompt_net": ("bert", peft.PromptEncoderConfig, {"num_virtual_tokens": 3, "encoder_hidden_size": 5}),
}


# Whole checkpoints, as ``adapters`` writes them, of a flexible model: an adapter with its head.
FOLDERS = {
    "bert-pickled": ("bert", adapters.SeqBnConfig(reduction_factor=4), False),
    "bert-double": ("bert", adapters.DoubleSeqBnConfig(reduction_factor={"0": 2, "default": 4}, leave_out=[1]), True),
    "bert-lora": ("bert", adapters.LoRAConfig(r=3, alpha=6, intermediate_lora=True, use_gating=True), True),
    "bert-ln_before": ("bert", adapters.BnConfig(**(BASE | {"ln_before": True, "ln_after": True})), False),
    "bert-mtl_lora": ("bert", adapters.MTLLoRAConfig(r=3, alpha=6, n_up_projection=2, output_lora=True), True),
    "gpt2-parallel": ("gpt2", adapters.ParBnConfig(reduction_factor=4, scaling="learned"), True),
    "gpt2-lora": ("gpt2", adapters.LoRAConfig(r=2, alpha=4, attn_matrices=["q", "k"], output_lora=True), True),
    "bart-double": ("bart", adapters.DoubleSeqBnConfig(reduction_factor=4), True),
    "distilbert-double": ("distilbert", adapters.DoubleSeqBnConfig(reduction_factor=4), True),
    "bert-inv": ("bert", adapters.SeqBnInvConfig(reduction_factor=4), True),
    "bart-inv": ("bart", adapters.DoubleSeqBnInvConfig(reduction_factor=4, inv_adapter_reduction_factor=4), True),
    "bert-loreft": ("bert", adapters.LoReftConfig(r=2, suffix_positions=2), True),
    "gpt2-loreft": ("gpt2", adapters.LoReftConfig(r=2, suffix_positions=1, tied_weights=True, layers=[1]), True),
    "bert-noreft": ("bert", adapters.NoReftConfig(r=2, non_linearity="tanh"), True),
    "bert-dora": ("bert", adapters.DoRAConfig(r=2, alpha=6, intermediate_lora=True), True),
    "bert-vera": ("bert", adapters.VeraConfig(r=4, alpha=6), True),
    "bert-vera_diagonal": ("bert", adapters.VeraConfig(r=4, alpha=4), True),
    "bert-dvora": ("bert", adapters.DvoRAConfig(r=4), True),
    "bert-ia3": ("bert", adapters.IA3Config(leave_out=[0]), True),
    "bart-ia3": ("bart", adapters.IA3Config(), True),
    "bert-compacter": ("bert", adapters.CompacterConfig(reduction_factor=2), True),
    "bert-compacter_own": (
        "bert",
        adapters.CompacterPlusPlusConfig(
            reduction_factor=2, shared_phm_rule=False, factorized_phm_rule=True, factorized_phm_W=False, phm_dim=2
        ),
        True,
    ),
    "gpt2-compacter_shared": (
        "gpt2",
        adapters.CompacterPlusPlusConfig(reduction_factor=2, shared_W_phm=True, phm_rank=2, factorized_phm_rule=True),
        True,
    ),
    "bert-prefix": ("bert", adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5), False),
    "bert-prefix_flat": ("bert", adapters.PrefixTuningConfig(prefix_length=3, flat=True, leave_out=[0]), False),
    "gpt2-prefix": ("gpt2", adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5), False),
    "bart-prefix": ("bart", adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5), False),
    "bert-mam": (
        "bert",
        adapters.MAMConfig(adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5), adapters.ParBnConfig()),
        False,
    ),
    "bert-unipelt": (
        "bert",
        adapters.UniPELTConfig(
            prefix_tuning=adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5, shared_gating=False),
            adapter=adapters.SeqBnConfig(reduction_factor=4),
            lora=adapters.LoRAConfig(r=2, alpha=2),
        ),
        False,
    ),
    "t5-double": ("t5", adapters.DoubleSeqBnConfig(reduction_factor=4, cross_adapter=True), True),
    "t5-prefix": ("t5", adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=5), False),
    "t5-prefix_flat": ("t5", adapters.PrefixTuningConfig(prefix_length=4, flat=True, encoder_prefix=False), False),
    "t5-unipelt": (
        "t5",
        adapters.UniPELTConfig(
            prefix_tuning=adapters.PrefixTuningConfig(prefix_length=2, bottleneck_size=5),
            adapter=adapters.SeqBnConfig(reduction_factor=4),
            lora=adapters.LoRAConfig(r=2, alpha=2),
        ),
        False,
    ),
    "bert-prompt": ("bert", adapters.PromptTuningConfig(prompt_length=3), True),
    "bert-prompt_bos": ("bert", adapters.PromptTuningConfig(prompt_length=3, combine="prefix_after_bos"), False),
    "roberta-prompt": ("roberta", adapters.PromptTuningConfig(prompt_length=3), True),
    "roberta-prompt_bos": ("roberta", adapters.PromptTuningConfig(prompt_length=3, combine="prefix_after_bos"), True),
    # Unions of several bottlenecks: at other sublayers, in other layers, and with what is there once.
    "bert-bn_union": (
        "bert",
        adapters.ConfigUnion(
            BnConfig(mh_adapter=True, output_adapter=False, reduction_factor=2, non_linearity="gelu"),
            adapters.ParBnConfig(reduction_factor=4, scaling="learned", leave_out=[1]),
            adapters.SeqBnInvConfig(reduction_factor=8, leave_out=[0]),
            adapters.LoRAConfig(r=2, alpha=4),
        ),
        True,
    ),
    "gpt2-bn_union": (
        "gpt2",
        adapters.ConfigUnion(
            adapters.DoubleSeqBnConfig(reduction_factor=4, leave_out=[1], ln_after=True),
            adapters.DoubleSeqBnConfig(reduction_factor=2, leave_out=[0], scaling="channel"),
        ),
        True,
    ),
    "bart-bn_union": (
        "bart",
        adapters.ConfigUnion(
            adapters.CompacterPlusPlusConfig(reduction_factor=2),
            BnConfig(
                mh_adapter=True, output_adapter=False, cross_adapter=True, reduction_factor=4, non_linearity="relu"
            ),
        ),
        True,
    ),
    "bert-vera_union_diagonal": (
        "bert",
        adapters.ConfigUnion(adapters.SeqBnConfig(reduction_factor=4), adapters.VeraConfig(r=4, alpha=4)),
        True,
    ),
    "bert-prompt_union": (
        "bert",
        adapters.ConfigUnion(adapters.PromptTuningConfig(prompt_length=2), adapters.SeqBnConfig(reduction_factor=4)),
        True,
    ),
}


def flexible(name):
    prefix, settings = ARCHITECTURES[name]
    config = getattr(tf, f"{prefix}Config")(**settings)
    config.decoder_start_token_id = 2 if name == "bart" else 0
    config._attn_implementation = "eager"  # with a prefix, the peer's sdpa hides text from itself
    model = getattr(adapters, f"{prefix}AdapterModel")(config)
    getattr(model, model.base_model_prefix).load_state_dict(build(name).state_dict(), strict=False)
    return model.eval()


def shaken(model, seed=7):
    torch.manual_seed(seed)
    base = [id(p) for p in getattr(model, model.base_model_prefix).parameters()]
    own = [p for key, p in model.named_parameters() if id(p) not in base or "adapter" in key or "loras" in key]
    with torch.no_grad():
        for parameter in own:
            parameter.add_(0.3 * torch.randn_like(parameter))


def golden_folder(label, name, config, safe):
    model = flexible(name)
    model.add_adapter("task", config=config)
    model.add_classification_head("task", num_labels=3, id2label={0: "no", 1: "yes", 2: "maybe"})
    model.set_active_adapters("task")
    shaken(model)
    if label.endswith("_diagonal"):  # as the paper has it
        for key, value in model.named_parameters():
            if "vera_" in key:
                value.data = value.data.diagonal().diag()
    given = {key: value for key, value in inputs(name).items() if key != "decoder_input_ids"}
    if name in ("bart", "t5"):  # which classify by the end of the sequence
        given["input_ids"][:, -1] = model.config.eos_token_id
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    with torch.no_grad():
        logits = model(**given).logits
    folder = HERE / "adapters" / label
    model.save_adapter(folder, "task", use_safetensors=safe)
    save(f"adapters/{label}/expected", {"input/" + k: v for k, v in given.items()} | {"output": logits}, {})


def golden_inverse():
    """Scores of a language-modelling head over an adapter with an invertible part."""
    model = flexible("bert")
    model.add_adapter("task", config=adapters.SeqBnInvConfig(reduction_factor=4))
    model.add_masked_lm_head("task")
    model.set_active_adapters("task")
    shaken(model)
    with torch.no_grad():
        logits = model(**inputs("bert")).logits
    folder = HERE / "adapters" / "bert-mlm"
    model.save_adapter(folder, "task", use_safetensors=True)
    given = {"input/" + key: value for key, value in inputs("bert").items()}
    save("adapters/bert-mlm/expected", given | {"output": logits}, {})


def golden_experts():
    """LoRA of PEFT at the weights of experts, of one parameter for all of them, and at a module beside."""
    settings = HIDDEN | {"vocab_size": 60, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 20}
    settings |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    torch.manual_seed(0)
    model = tf.GptOssModel(tf.GptOssConfig(**settings)).eval()
    randomise(model.parameters(), 0.3)
    given = inputs("gpt-oss")
    with torch.no_grad():
        bare = run(model, given)
    tensors = {f"base/{key}": value.clone() for key, value in model.named_parameters()}
    tensors |= {f"input/{key}": value for key, value in given.items()} | {"output": bare}
    save("experts/gpt-oss", tensors, {"class": "GptOss", "config": settings})
    options = {"r": 2, "lora_alpha": 6, "alpha_pattern": {"experts.down_proj": 4}, "rank_pattern": {"q_proj": 3}}
    targets = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    model = peft.get_peft_model(model, peft.LoraConfig(**options, **targets))
    torch.manual_seed(7)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.3 * torch.randn_like(value))
        output = run(model.eval(), given)
    folder = HERE / "experts" / "gpt-oss-peft"
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    save("experts/gpt-oss-peft/expected", {"output": output}, {})


def golden_tokens(label, combine):
    """Scores of every token over a prompt; the peer has some for the prompt too."""
    model = flexible("bert")
    model.add_adapter("task", config=adapters.PromptTuningConfig(prompt_length=3, combine=combine))
    model.add_tagging_head("task", num_labels=3, id2label={0: "no", 1: "yes", 2: "maybe"})
    model.set_active_adapters("task")
    shaken(model)
    with torch.no_grad():
        logits = model(**inputs("bert")).logits
    at = 0 if combine == "prefix" else 1
    folder = HERE / "adapters" / label
    model.save_adapter(folder, "task", use_safetensors=True)
    given = {"input/" + key: value for key, value in inputs("bert").items()}
    logits = torch.cat((logits[:, :at], logits[:, at + 3 :]), dim=1)
    save(f"adapters/{label}/expected", given | {"output": logits}, {})


def golden_setup():
    """A whole setup: a fusion in a stack, with a head of its own."""
    model = flexible("bert")
    for name in "abc":
        model.add_adapter(name, config=adapters.SeqBnConfig(reduction_factor=4))
    setup = adapters.Stack("a", adapters.Fuse("b", "c"))
    model.add_adapter_fusion(adapters.Fuse("b", "c"))
    model.add_tagging_head("target", num_labels=4)
    model.set_active_adapters(setup)
    shaken(model)
    with torch.no_grad():
        logits = model(**inputs("bert"), head="target").logits
    model.save_adapter_setup(HERE / "adapters" / "bert-setup", setup, head_setup="target", use_safetensors=True)
    given = {"input/" + key: value for key, value in inputs("bert").items()}
    save("adapters/bert-setup/expected", given | {"output": logits}, {})


def golden_checkpoint(label, name, config, **saving):
    prefix, settings = (ARCHITECTURES | BARE)[name]
    made = getattr(tf, f"{prefix}Config")(**settings | {"pad_token_id": 0} if name != "bert" else settings)
    model = getattr(tf, f"{prefix}ForSequenceClassification")(made).eval()
    getattr(model, model.base_model_prefix).load_state_dict(build(name).state_dict())
    torch.manual_seed(1)
    base = getattr(model, model.base_model_prefix)
    own = {key for key, _ in base.named_parameters(prefix=model.base_model_prefix)}
    head = {key: value for key, value in model.named_parameters() if key not in own}
    randomise(head.values(), 0.5)
    head = {f"base/{key}": value.clone() for key, value in head.items()}
    model = peft.get_peft_model(model, config)
    torch.manual_seed(7)
    for key, value in model.named_parameters():
        if value.requires_grad or (key.endswith(".bias") and getattr(config, "bias", "none") == "all"):
            with torch.no_grad():
                value.add_(0.3 * torch.randn_like(value))
    with torch.no_grad():
        logits = model.eval()(**inputs(name)).logits
    folder = HERE / "peft" / label
    model.save_pretrained(folder, **saving)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    for names in ("target_modules", "feedforward_modules"):
        if isinstance(config.get(names), list):
            config[names].sort()  # PEFT writes a set, in an order that changes from run to run
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save(f"peft/{label}/expected", head | {"output": logits}, {})


def golden_checkpoints():
    for label, options in CHECKPOINTS.items():
        golden_checkpoint(label, "bert", peft.LoraConfig(**options))
    for label, (name, config, options) in METHODS.items():
        golden_checkpoint(
            label,
            name,
            config(**options, task_type="SEQ_CLS" if label.rpartition("_")[2] in ("prefix", "prompt", "net") else None),
        )
    for name in ("t5", "bart"):
        for label, config in (("prompt", peft.PromptTuningConfig), ("prompt_net", peft.PromptEncoderConfig)):
            golden_seq2seq(name, label, config)
    golden_checkpoint("pickled", "bert", peft.LoraConfig(**CHECKPOINTS["plain"]), safe_serialization=False)


def golden_seq2seq(name, label, config):
    """A prompt of PEFT on an encoder-decoder with its language modelling head, which is tied to the embeddings."""
    prefix, settings = ARCHITECTURES[name]
    made = getattr(tf, f"{prefix}Config")(**settings, pad_token_id=0, decoder_start_token_id=2)
    model = getattr(tf, f"{prefix}ForConditionalGeneration")(made).eval()
    own = dict(build(name).named_parameters())
    with torch.no_grad():
        for key, value in (model.model if name == "bart" else model).named_parameters():
            value.copy_(own[key])
    model = peft.get_peft_model(model, config(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    torch.manual_seed(7)
    given = inputs(name)
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        logits = model.eval()(**given).logits
        source = {key: given[key] for key in ("input_ids", "attention_mask")}
        written = model.generate(**source, max_new_tokens=5, num_beams=2, do_sample=False, eos_token_id=59)
    folder = HERE / "seq2seq" / f"{name}-{label}"
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    save(f"seq2seq/{name}-{label}/expected", {"output": logits, "generated": written}, {})


def save(stem, tensors, about):
    # All that is said in one entry: the order of several would change from run to run.
    tensors = {key: value.detach().clone() for key, value in tensors.items()}
    save_file(tensors, HERE / f"{stem}.safetensors", {"about": json.dumps(about | {"adapters": adapters.__version__})})


def golden_base(name, prefix, settings):
    """Weights of a bare model, its inputs, and what it gives."""
    model, given = build(name), inputs(name)
    with torch.no_grad():
        bare = run(model, given)
    tensors = {f"base/{key}": value for key, value in model.named_parameters()}
    tensors |= {f"input/{key}": value for key, value in given.items()} | {"output": bare}
    save(name, tensors, {"class": prefix, "config": settings})


def main():
    torch.set_num_threads(1)  # sums in one order
    known = {name: adapters.AdapterConfig.load(name).to_dict() for name in NAMED}
    known["adapter_plus"] = adapters.AdapterPlusConfig().to_dict()  # has no name there
    (HERE / "configs.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    for name, (prefix, settings) in (ARCHITECTURES | BARE).items():
        golden_base(name, prefix, settings)
    for name in ARCHITECTURES:
        for label, options in CONFIGS.items():
            golden(name, label, options)
        for label, options in VARIANTS_ON.get(name, {}).items():
            try:
                golden(name, f"option_{label}", options)
            except Exception as error:  # what the peer cannot do is said, not hidden
                print(f"{name} {label}: {type(error).__name__}: {error}")
    all_golden_weights()
    for folder in ("fusions", "adapters", "tasks", "experts"):
        (HERE / folder).mkdir(exist_ok=True)
    for name in ("bert", "bart"):
        golden_tasks(name, {"r": 3, "alpha": 6, "n_up_projection": 2, "intermediate_lora": True})
    for label, options in FUSIONS.items():
        for name in ("bert", "gpt2", "bart"):
            golden_fusion(name, label, options)
    for label, (name, config, safe) in FOLDERS.items():
        golden_folder(label, name, config, safe)
    golden_tokens("bert-prompt_tokens", "prefix")
    golden_tokens("bert-prompt_bos_tokens", "prefix_after_bos")
    golden_setup()
    golden_experts()
    golden_inverse()
    golden_checkpoints()


if __name__ == "__main__":
    main()
