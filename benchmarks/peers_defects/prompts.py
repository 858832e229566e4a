"""Prompt tuning, of `adapters` and of PEFT."""

import tempfile

import adapters
import peft
import torch
import transformers as tf
from adapters.composition import Stack
from common import CONFIG, IDS, difference, model, run, shaken, tried

PROMPT = adapters.PromptTuningConfig(prompt_length=3)


def of_a_text() -> str:
    config = adapters.PromptTuningConfig(prompt_init="from_string", prompt_init_text="good or bad")
    return tried("a prompt of a text", lambda: model("a", config=config))


def scale() -> str:
    return tried(
        "PromptTuningConfig(random_uniform_scale=0.1)", lambda: adapters.PromptTuningConfig(random_uniform_scale=0.1)
    )


def stack() -> str:
    made = model("a", "b", config=PROMPT)
    return f"a Stack of two prompts differs from the first by {difference(run(made, Stack('a', 'b')), run(made, 'a'))}"


def reloaded() -> str:
    made = model("a", config=PROMPT)
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter(folder, "a")
        expected = run(made, "a")
        made.load_adapter(folder, load_as="b")
        return f"a prompt loaded under another name: the output changes by {difference(run(made, 'b'), expected)}"


def distilbert() -> str:
    settings = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20}
    made = tf.DistilBertModel(tf.DistilBertConfig(**settings, attn_implementation="eager")).eval()
    adapters.init(made)
    made.add_adapter("a", config=PROMPT)
    return tried("a prompt on DistilBERT with eager attention", lambda: run(made, "a").shape)


def labels_of_tokens() -> str:
    """With labels, the loss of a tagging head is not that of the scores at the tokens that the labels are of."""
    torch.manual_seed(0)
    made = adapters.BertAdapterModel(tf.BertConfig(**CONFIG)).eval()
    made.add_adapter("a", config=PROMPT.replace(combine="prefix_after_bos"))
    made.add_tagging_head("a", num_labels=4)
    made.set_active_adapters("a")
    labels = IDS % 4
    with torch.no_grad():
        output = made(IDS, labels=labels)
    own = torch.cat((output.logits[:, :1], output.logits[:, 4:]), dim=1)
    loss = torch.nn.functional.cross_entropy(own.flatten(0, 1), labels.flatten())
    return f"labels of tokens with a prompt after the first one: the loss is off by {difference(output.loss, loss)}"


def of_peft(made: tf.PreTrainedModel, task: str) -> peft.PeftModel:
    torch.manual_seed(0)
    config = peft.PromptTuningConfig(task_type=task, num_virtual_tokens=3)
    return peft.get_peft_model(made.eval(), config).eval()


def peft_padding() -> str:
    torch.manual_seed(0)
    config = tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, pad_token_id=0)
    made = of_peft(tf.GPT2ForSequenceClassification(config), "SEQ_CLS")
    mask = torch.ones_like(IDS)
    mask[:, -2:] = 0
    with torch.no_grad():
        padded = made(input_ids=IDS * mask, attention_mask=mask).logits
        alone = made(input_ids=IDS[:, :-2], attention_mask=mask[:, :-2]).logits
    return f"PEFT, a prompt on GPT2ForSequenceClassification: padding changes a row by {difference(padded, alone)}"


def peft_answers() -> str:
    torch.manual_seed(0)
    made = of_peft(tf.BertForQuestionAnswering(tf.BertConfig(**CONFIG)), "QUESTION_ANS")
    start = torch.tensor([1, 2])
    with torch.no_grad():
        output = made(input_ids=IDS, attention_mask=torch.ones_like(IDS), start_positions=start, end_positions=start)
    logits = output.start_logits, output.end_logits
    loss = sum(torch.nn.functional.cross_entropy(one[:, 3:], start) for one in logits) / 2
    return f"PEFT, a prompt and positions of answers: the loss is off by {difference(output.loss, loss)}"


def peft_left() -> str:
    """RoBERTa counts positions without padding; PEFT's embedded tokens are counted with it."""
    torch.manual_seed(0)
    config = tf.RobertaConfig(**{**CONFIG, "max_position_embeddings": 40}, pad_token_id=1)
    made = of_peft(tf.RobertaForTokenClassification(config), "TOKEN_CLS")
    padded = torch.cat((torch.ones(2, 4, dtype=torch.long), IDS), dim=1)
    with torch.no_grad():
        alone = made(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, 3:]
        left = made(input_ids=padded, attention_mask=(padded != 1).long()).logits[:, 7:]
    return f"PEFT, a prompt on RoBERTa: padding on the left changes a row by {difference(left, alone)}"


def of_peft_on_t5(kind: type[peft.PromptTuningConfig], **options: object) -> peft.PeftModel:
    """With three vectors for the encoder, and three for the decoder."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2}
    made = tf.T5ForConditionalGeneration(tf.T5Config(**sizes, pad_token_id=0, decoder_start_token_id=0))
    config = kind(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3, num_transformer_submodules=2, **options)
    return peft.get_peft_model(shaken(made), config).eval()


def written_scores(made: peft.PeftModel, **options: torch.Tensor) -> torch.Tensor:
    """Those of the tokens that it generates."""
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "output_logits": True, "return_dict_in_generate": True}
    return torch.stack(made.generate(input_ids=IDS, **settings, **options).logits)


def decoder_changed(made: peft.PeftModel) -> None:
    """Other vectors for the decoder."""
    with torch.no_grad():
        made.prompt_encoder["default"].embedding.weight[3:].add_(torch.randn(3, 16))


def peft_decoder() -> str:
    made = of_peft_on_t5(peft.PromptTuningConfig)
    output = made(input_ids=IDS, labels=IDS)
    output.loss.backward()
    learning = made.prompt_encoder["default"].embedding.weight.grad.any(dim=1).sum()
    before = written_scores(made)
    decoder_changed(made)
    changes = difference(made(input_ids=IDS, labels=IDS).logits, output.logits)
    written = difference(written_scores(made), before)
    return (
        f"PEFT, a prompt on T5 with vectors for the decoder: {learning} of 6 learn; others there change scores by "
        f"{changes}, and what is generated by {written}"
    )


def peft_multitask() -> str:
    made = of_peft_on_t5(peft.MultitaskPromptTuningConfig, num_tasks=1)
    with torch.no_grad():
        made.prompt_encoder["default"].prefix_task_rows.add_(1)  # they begin close to 0
        made.prompt_encoder["default"].prefix_task_cols.add_(1)
    task = {"task_ids": torch.zeros(2, dtype=torch.long)}
    output, before = made(input_ids=IDS, labels=IDS, **task).logits, written_scores(made, **task)
    decoder_changed(made)
    changes = difference(made(input_ids=IDS, labels=IDS, **task).logits[:, 3:], output[:, 3:])
    written = difference(written_scores(made, **task), before)
    return (
        f"PEFT, multitask prompt tuning on T5: other vectors of the decoder change scores by {changes}, and what is "
        f"generated by {written}; {output.shape[1]} scores for {IDS.shape[1]} labels; "
        + tried("decoder_input_ids", lambda: made(input_ids=IDS, decoder_input_ids=IDS, **task).logits.shape)
    )


CHECKS = (
    of_a_text,
    scale,
    stack,
    reloaded,
    distilbert,
    labels_of_tokens,
    peft_padding,
    peft_answers,
    peft_left,
    peft_decoder,
    peft_multitask,
)
