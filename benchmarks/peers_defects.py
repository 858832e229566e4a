"""What the peers get wrong, shown by running them: each line is a check against a closed form.

Runs in the environment of the peers (``scripts/peer-env``): ``.venv-peers/bin/python benchmarks/peers_defects.py``.
Tests of this library check the same closed forms for it.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import adapters
import peft
import torch
import transformers as tf
from adapters.composition import Average, Fuse, Split, Stack

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
IDS = torch.randint(3, 59, (2, 6), generator=torch.Generator().manual_seed(3))


def model(*names: str, config: object = "seq_bn", heads: bool = False):
    torch.manual_seed(0)
    made = tf.BertModel(tf.BertConfig(**CONFIG)) if not heads else adapters.BertAdapterModel(tf.BertConfig(**CONFIG))
    if not heads:
        adapters.init(made)
    for name in names:
        made.add_adapter(name, config=config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def run(made, setup) -> torch.Tensor:
    made.set_active_adapters(setup)
    with torch.no_grad():
        return made(IDS).last_hidden_state


def average() -> str:
    made = model("a")
    one, mean = run(made, "a"), run(made, Average("a", "a"))
    return f"the average of an adapter with itself differs from it by {(one - mean).abs().max():.3f}"


def merged(config: object) -> float:
    made = model("a", config=config)
    unmerged = run(made, "a")
    made.merge_adapter("a")
    with torch.no_grad():  # activating it again would take it out
        return float((made(IDS).last_hidden_state - unmerged).abs().max())


def dora_merge() -> str:
    return f"DoRA with alpha 16, r 8, merged: the output changes by {merged(adapters.DoRAConfig(alpha=16)):.3f}"


def ia3_merge() -> str:
    return f"(IA)³ merged into layers with a bias: the output changes by {merged('ia3'):.3f}"


def dora_reset() -> str:
    made = model("a", config="dora")
    before = made.encoder.layer[0].attention.self.query.weight.clone()
    made.merge_adapter("a")
    made.reset_adapter()
    after = made.encoder.layer[0].attention.self.query.weight
    return f"DoRA merged and reset: the base's weights differ by {(before - after).abs().max():.3f}"


def vera_size() -> str:
    made = model("a", config="vera")
    trained = sum(p.numel() for key, p in made.named_parameters() if ".a." in key and "vera" in key)
    vectors = 2 * 2 * (8 + 16)
    return f"VeRA at q and v of two layers of width 16, r 8: {trained} trained values, {vectors} in the paper"


def direft_reload() -> str:
    made = model("a", config="direft")
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter(folder, "a")
        expected = run(made, "a")
        made.load_adapter(folder, load_as="b")
        return f"DiReFT saved and loaded: the output changes by {(run(made, 'b') - expected).abs().max():.3f}"


def average_adapter() -> str:
    made = model("a", "b")
    try:
        made.average_adapter("c", {"a": 1.0, "b": 0.0})
    except Exception as error:
        return f"average_adapter({{'a': 1, 'b': 0}}): {type(error).__name__}: {error}"
    own = dict(made.named_parameters())
    key = next(key for key in own if ".a.adapter_up.weight" in key)
    found = (own[key.replace(".a.", ".c.")] - own[key]).abs().max()
    return f"average_adapter({{'a': 1, 'b': 0}}) differs from a by {found:.3f}"


def fuse_name() -> str:
    return f"Fuse('a', 'b', name='mine') is written as {json.dumps(Fuse('a', 'b', name='mine').to_dict())}"


def fusion_load() -> str:
    made = model("a", "b", heads=True)
    made.add_adapter_fusion(["a", "b"])
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter_fusion(folder, "a,b")
        return f"load_adapter_fusion returns {made.load_adapter_fusion(folder)!r}"


def split() -> str:
    made = model("a", "b")
    try:
        run(made, Split("a", "b", splits=[2, 2]))
    except Exception as error:
        return f"Split of 4 positions over 6: {type(error).__name__}: {error}"
    return "Split of 4 positions over 6 runs"


def whole_scaling() -> str:
    try:
        model("a", config=adapters.ParBnConfig(scaling=4))
    except Exception as error:
        return f"scaling=4: {type(error).__name__}: {error}"
    return "scaling=4 works"


def lora_stack() -> str:
    made = model("a", "b", config=adapters.LoRAConfig(intermediate_lora=True))
    try:
        run(made, Stack("a", "b"))
    except Exception as error:
        return f"a Stack of two LoRAs at a weight that is not square: {type(error).__name__}: {error}"
    return "a Stack of two LoRAs at a weight that is not square runs"


def fused_lora() -> str:
    made = model("a", "b", config="lora")
    try:
        made.add_adapter_fusion(["a", "b"])
        run(made, Fuse("a", "b"))
    except Exception as error:
        return f"a fusion of LoRAs: {type(error).__name__}: {error}"
    return "a fusion of LoRAs runs"


def depth() -> str:
    try:
        adapters.parse_composition(Stack("a", Average("a", Stack("b", Average("a", "b")))))
    except Exception as error:
        return f"Stack(a, Average(a, Stack(b, Average(a, b)))): {type(error).__name__}: {error}"
    return "deep compositions are taken"


def prefix_sdpa() -> str:
    outputs = []
    for implementation in ("eager", "sdpa"):
        torch.manual_seed(0)
        config = tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, attn_implementation=implementation)
        made = tf.GPT2Model(config)
        adapters.init(made)
        made.add_adapter("a", config=adapters.PrefixTuningConfig(flat=True, prefix_length=3))
        outputs.append(run(made.eval(), "a"))
    return f"prefix tuning on GPT-2: eager and sdpa differ by {(outputs[0] - outputs[1]).abs().max():.3f}"


def gated_lora() -> str:
    found = []
    for alpha in (2, 16):
        made = model("a", config=adapters.LoRAConfig(r=2, alpha=alpha, use_gating=True))
        found.append(run(made, "a"))
    return f"gated LoRA with alpha 2 and 16: the outputs differ by {(found[0] - found[1]).abs().max():.3f}"


def saved_norm() -> str:
    made = model("a", config=adapters.BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=2,
                                               non_linearity="relu", ln_before=True))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            made.save_adapter(folder, "a", use_safetensors=True)
        except Exception as error:
            return f"ln_before saved as safetensors: {type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
        return f"ln_before is saved as {[path.name for path in Path(folder).iterdir()]}"


def prompt_text() -> str:
    try:
        model("a", config=adapters.PromptTuningConfig(prompt_init="from_string", prompt_init_text="good or bad"))
    except Exception as error:
        return f"a prompt of a text: {type(error).__name__}: {error}"
    return "a prompt of a text works"


def prompt_scale() -> str:
    try:
        adapters.PromptTuningConfig(random_uniform_scale=0.1)
    except Exception as error:
        return f"PromptTuningConfig(random_uniform_scale=0.1): {type(error).__name__}: {error}"
    return "random_uniform_scale is an option"


def prompt_stack() -> str:
    made = model("a", "b", config=adapters.PromptTuningConfig(prompt_length=3))
    same = torch.equal(run(made, Stack("a", "b")), run(made, "a"))
    return f"a Stack of two prompts is the first alone: {same}"


def prompt_load_as() -> str:
    made = model("a", config=adapters.PromptTuningConfig(prompt_length=3))
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter(folder, "a")
        expected = run(made, "a")
        made.load_adapter(folder, load_as="b")
        return (
            f"a prompt loaded under another name: the output changes by {(run(made, 'b') - expected).abs().max():.3f}"
        )


def prompt_distilbert() -> str:
    settings = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20}
    made = tf.DistilBertModel(tf.DistilBertConfig(**settings, attn_implementation="eager")).eval()
    adapters.init(made)
    made.add_adapter("a", config=adapters.PromptTuningConfig(prompt_length=3))
    try:
        run(made, "a")
    except Exception as error:
        return f"a prompt on DistilBERT with eager attention: {type(error).__name__}: {error}"
    return "a prompt on DistilBERT with eager attention runs"


def prompt_labels() -> str:
    """With labels, the loss of a tagging head is not that of the scores at the tokens that the labels are of."""
    torch.manual_seed(0)
    made = adapters.BertAdapterModel(tf.BertConfig(**CONFIG)).eval()
    made.add_adapter("a", config=adapters.PromptTuningConfig(prompt_length=3, combine="prefix_after_bos"))
    made.add_tagging_head("a", num_labels=4)
    made.set_active_adapters("a")
    labels = IDS % 4
    with torch.no_grad():
        output = made(IDS, labels=labels)
    own = torch.cat((output.logits[:, :1], output.logits[:, 4:]), dim=1)
    loss = torch.nn.functional.cross_entropy(own.flatten(0, 1), labels.flatten())
    return f"labels of tokens with the prompt after the first one: the loss is off by {abs(output.loss - loss):.3f}"


def peft_prompt(made: tf.PreTrainedModel, task: str) -> peft.PeftModel:
    torch.manual_seed(0)
    config = peft.PromptTuningConfig(task_type=task, num_virtual_tokens=3)
    return peft.get_peft_model(made.eval(), config).eval()


def peft_prompt_padding() -> str:
    torch.manual_seed(0)
    config = tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, pad_token_id=0)
    made = peft_prompt(tf.GPT2ForSequenceClassification(config), "SEQ_CLS")
    mask = torch.ones_like(IDS)
    mask[:, -2:] = 0
    with torch.no_grad():
        padded = made(input_ids=IDS * mask, attention_mask=mask).logits
        alone = made(input_ids=IDS[:, :-2], attention_mask=mask[:, :-2]).logits
    return (
        f"PEFT, a prompt on GPT2ForSequenceClassification: padding changes a row by {(padded - alone).abs().max():.3f}"
    )


def peft_prompt_answers() -> str:
    torch.manual_seed(0)
    made = peft_prompt(tf.BertForQuestionAnswering(tf.BertConfig(**CONFIG)), "QUESTION_ANS")
    start = torch.tensor([1, 2])
    with torch.no_grad():
        output = made(input_ids=IDS, attention_mask=torch.ones_like(IDS), start_positions=start, end_positions=start)
    logits = output.start_logits, output.end_logits
    loss = sum(torch.nn.functional.cross_entropy(one[:, 3:], start) for one in logits) / 2
    scores, off = logits[0].shape[1], abs(output.loss - loss)
    return f"PEFT, a prompt and positions of answers: {scores} scores for 6 tokens, the loss is off by {off:.3f}"


def peft_prompt_left() -> str:
    """RoBERTa counts positions without padding; PEFT's embedded tokens are counted with it."""
    torch.manual_seed(0)
    config = tf.RobertaConfig(**{**CONFIG, "max_position_embeddings": 40}, pad_token_id=1)
    made = peft_prompt(tf.RobertaForTokenClassification(config), "TOKEN_CLS")
    padded = torch.cat((torch.ones(2, 4, dtype=torch.long), IDS), dim=1)
    with torch.no_grad():
        alone = made(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, 3:]
        left = made(input_ids=padded, attention_mask=(padded != 1).long()).logits[:, 7:]
    return f"PEFT, a prompt on RoBERTa: padding on the left changes a row by {(left - alone).abs().max():.3f}"


CHECKS: tuple[Callable[[], str], ...] = (
    average, dora_merge, ia3_merge, dora_reset, vera_size, direft_reload, average_adapter, fuse_name, fusion_load,
    split, whole_scaling, lora_stack, fused_lora, depth, saved_norm, prefix_sdpa, gated_lora,
    prompt_text, prompt_scale, prompt_stack, prompt_load_as, prompt_distilbert, prompt_labels, peft_prompt_padding,
    peft_prompt_answers, peft_prompt_left,
)  # fmt: skip


if __name__ == "__main__":
    print(f"adapters {adapters.__version__}, PEFT {peft.__version__}, transformers {tf.__version__}")
    for check in CHECKS:
        try:
            print(f"{check.__name__}: {check()}")
        except Exception as error:
            print(f"{check.__name__}: could not be run: {type(error).__name__}: {error}")
