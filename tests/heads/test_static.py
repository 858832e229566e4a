import copy
import json
import math
import pickle
import threading

import pytest
import torch
import transformers as tf

import flexible
import tiny
from adapterhub.errors import HeadError
from adapterhub.heads import BaseInfo, StaticHead, base_of, build_head, static
from adapterhub.heads.static import StaticConfig

WRITERS = ("ForConditionalGeneration", "MTModel")
KINDS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForMaskedLM",
    "ForCausalLM",
    "LMHeadModel",
    *WRITERS,
    "ForPreTraining",
    "ForImageClassification",
    "ForAudioClassification",
)
CLASSES = [
    (family, kind)
    for family, (prefix, _) in tiny.FAMILIES.items()
    for kind in KINDS
    if hasattr(tf, prefix + kind) and (family, kind) != ("whisper", "ForCausalLM")  # it takes encoder states
]


def original(family, kind, seed=0, **changes):
    if family == "clip":
        torch.manual_seed(seed)
        return tf.CLIPForImageClassification(tiny.config("clip")).eval()
    if family != "vit":
        changes = {"pad_token_id": 0 if family not in tiny.ENCODER_DECODERS else 1} | changes
    return tiny.model(family, kind, seed, **changes)


def arguments(family, kind, model):
    """Inputs and, where the class takes any, targets."""
    inputs, targets = tiny.inputs(family), {}
    if family == "clip":
        inputs = {"pixel_values": inputs["pixel_values"]}
    if kind == "ForMultipleChoice":
        inputs = {name: torch.stack((value, value.flip(0)), 1) for name, value in inputs.items()}
    if kind in (*WRITERS, "ForSequenceClassification", "ForQuestionAnswering"):
        inputs.pop("decoder_input_ids", None)
        if family in tiny.ENCODER_DECODERS and "input_ids" in inputs:
            inputs["input_ids"][:, -1] = model.config.eos_token_id
    generator = torch.Generator().manual_seed(2)
    if kind == "ForQuestionAnswering":
        names = ("start_positions", "end_positions")
        targets = {name: torch.randint(0, 9, (3,), generator=generator) for name in names}
    elif ("Classification" in kind and kind != "ForTokenClassification") or kind == "ForMultipleChoice":
        targets = {"labels": torch.tensor([0, 1, 1])}
    elif kind in WRITERS:
        targets = {"labels": torch.randint(3, 90, (3, 4), generator=generator)}
    else:
        high = 2 if kind == "ForTokenClassification" or (family == "electra" and kind == "ForPreTraining") else 90
        targets = {"labels": torch.randint(0, high, (3, 7), generator=generator)}
        if kind == "ForPreTraining" and family in ("bert", "albert"):
            targets["next_sentence_label" if family == "bert" else "sentence_order_label"] = torch.tensor([0, 1, 0])
    return inputs, targets


def assert_same(answer, expected):
    assert type(answer) is type(expected)
    assert list(answer) == [name for name in expected if name != "past_key_values"]
    for name, value in answer.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(("family", "kind"), CLASSES)
def test_every_class_of_transformers_answers_as_before(family, kind):
    model = original(family, kind)
    before = copy.deepcopy(model.state_dict())
    inputs, targets = arguments(family, kind, model)
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    expected = (
        model(**inputs, **targets, use_cache=False) if family not in ("vit", "clip") else model(**inputs, **targets)
    )
    assert expected.loss is not None
    assert_same(flex(**inputs, **targets), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("family", "kind"), CLASSES)
def test_comes_back_from_its_configuration_and_tensors(family, kind):
    model = original(family, kind)
    inputs, targets = arguments(family, kind, model)
    flex = flexible.around(model)
    saved = StaticHead.from_model(model)
    again = build_head(json.loads(json.dumps(saved.to_dict())), BaseInfo.of(flex))
    again.load_state_dict(saved.state_dict())
    assert again.config == saved.config and again.labels == saved.labels
    flex.hold_head("again", again)
    flex.hold_head("saved", saved)
    assert_same(flex(**inputs, **targets, head="again"), flex(**inputs, **targets, head="saved"))


@pytest.mark.parametrize(("family", "kind"), CLASSES)
def test_holds_no_tensor_of_the_base_and_none_twice(family, kind):
    model = original(family, kind)
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    tensors = [value.data_ptr() for name, value in flex.state_dict().items() if name.startswith("heads.")]
    others = {value.data_ptr() for name, value in flex.state_dict().items() if not name.startswith("heads.")}
    assert len(set(tensors)) == len(tensors) and not others & set(tensors)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "ForMaskedLM"), ("roberta", "ForMaskedLM"), ("gpt2", "LMHeadModel"), ("t5", "ForConditionalGeneration")],
)
def test_follows_the_embeddings_that_it_is_tied_to(family, kind):
    model = original(family, kind)
    inputs, targets = arguments(family, kind, model)
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    assert not any(99 in value.shape[:1] and value.dim() == 2 for value in flex.heads.state_dict().values())
    changed = torch.randn(99, 32, generator=torch.Generator().manual_seed(3))
    for one in (model, flex):
        one.get_input_embeddings().weight.data.copy_(changed)
    assert_same(flex(**inputs, **targets), model(**inputs, **targets, use_cache=False))
    flex(**inputs, **targets).loss.backward()
    model(**inputs, **targets).loss.backward()
    ours, theirs = (one.get_input_embeddings().weight.grad for one in (flex, model))
    assert ours.any() and torch.equal(ours, theirs)


def test_an_untied_matrix_is_the_heads_own():
    model = original("llama", "ForCausalLM")
    head = StaticHead.from_model(model)
    assert torch.equal(head.state_dict()["shell.lm_head.weight"], model.lm_head.weight)
    assert not head.config.tied
    model = original("t5", "ForConditionalGeneration")
    model.lm_head = torch.nn.Linear(32, 99, bias=False)  # as in T5 v1.1
    head = StaticHead.from_model(model)
    flex = flexible.around(model)
    again = build_head(head.to_dict(), BaseInfo.of(flex))
    again.load_state_dict(head.state_dict())
    flex.hold_head("default", again)
    inputs, targets = arguments("t5", "ForConditionalGeneration", model)
    assert_same(flex(**inputs, **targets), model(**inputs, **targets, use_cache=False))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_is_copied_whole(clone):
    model = original("roberta", "ForMaskedLM")
    inputs, targets = arguments("roberta", "ForMaskedLM", model)
    flex = flexible.around(model)
    head = clone(StaticHead.from_model(model))
    flex.hold_head("default", head)
    assert_same(flex(**inputs, **targets), model(**inputs, **targets))
    head.shell.lm_head.bias.data.add_(1)  # which its decoder shares
    assert torch.allclose(flex(**inputs).logits, model(**inputs).logits + 1)


def test_copies_read_the_base_that_they_belong_to():
    model = original("gpt2", "LMHeadModel")
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    other = copy.deepcopy(flex)
    other.wte.weight.data.mul_(2)
    inputs, targets = arguments("gpt2", "LMHeadModel", model)
    assert_same(flex(**inputs, **targets), model(**inputs, **targets, use_cache=False))
    assert not torch.allclose(other(**inputs).logits, model(**inputs).logits)


def test_threads_do_not_see_each_others_calls():
    models = [original("gpt2", "LMHeadModel", seed) for seed in range(2)]
    head = StaticHead.from_model(models[0])  # holds nothing: the same one serves both
    flexes = [flexible.around(model) for model in models]
    for flex in flexes:
        flex.hold_head("default", head)
    inputs, _ = arguments("gpt2", "LMHeadModel", models[0])
    expected = [model(**inputs).logits for model in models]
    wrong = []

    def run(which):
        wrong.extend(i for i in range(30) if not torch.equal(flexes[which](**inputs).logits, expected[which]))

    threads = [threading.Thread(target=run, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_call_leaves_nothing_behind():
    model = original("gpt2", "LMHeadModel")
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    flex(**tiny.inputs("gpt2"))
    assert static._call.context is None
    with pytest.raises(ValueError, match="batch_size"):
        flex(**tiny.inputs("gpt2"), labels=torch.zeros(1, dtype=torch.long))
    assert static._call.context is None


def test_is_taken_from_a_model_that_was_added_to():
    plain = original("bert", "ForSequenceClassification")
    model = copy.deepcopy(plain)
    model.__class__ = type("BertForSequenceClassification", (tf.BertForSequenceClassification,), {})
    model.engine = threading.Lock()  # which cannot be copied
    model.adapters = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    head = StaticHead.from_model(model)
    expected = StaticHead.from_model(plain)
    assert head.config == expected.config and type(head.shell) is tf.BertForSequenceClassification
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in head.state_dict().items())
    assert head.state_dict().keys() == expected.state_dict().keys()


def test_names_of_kernels_are_not_followed():
    head = StaticHead.from_model(original("llama", "ForSequenceClassification"))
    values = head.to_dict()
    values["settings"] |= {"attn_implementation": "somebody/kernels", "experts_implementation": "somebody/kernels"}
    config = build_head(values, BaseInfo.of(flexible.make("llama"))).shell.config
    assert config._attn_implementation == config._experts_implementation == "eager"


def test_configurations_may_hold_an_infinity():
    torch.manual_seed(0)
    settings = {"vocab_size": 99, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 1}
    model = tf.Mamba2ForCausalLM(tf.Mamba2Config(num_heads=8, head_dim=8, n_groups=1, **settings))
    head = StaticHead.from_model(model)
    again = build_head(json.loads(json.dumps(head.to_dict())), BaseInfo.of(base_of(model)))
    assert list(again.shell.config.time_step_limit) == [0.0, math.inf]


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "ForMaskedLM"), ("bart", "ForConditionalGeneration"), ("llama", "ForCausalLM"), ("phi", "ForCausalLM")],
)
@pytest.mark.parametrize("size", [120, 95])
def test_follows_a_change_of_the_vocabulary(family, kind, size):
    model = original(family, kind)
    if family == "bart":
        model.final_logits_bias.normal_()
    flex = flexible.around(model)
    flex.hold_head("default", StaticHead.from_model(model))
    inputs, targets = arguments(family, kind, model)
    before = flex(**inputs, **targets).logits
    flex.resize_token_embeddings(size)
    after = flex(**inputs, **targets)
    assert after.logits.shape[-1] == size and after.loss.isfinite()
    if size > 99:
        torch.testing.assert_close(after.logits[..., :99], before)


def test_compiles_without_a_graph_break():
    for family, kind in [
        ("bert", "ForSequenceClassification"),
        ("bert", "ForMaskedLM"),
        ("bart", "ForConditionalGeneration"),
    ]:
        model = original(family, kind)
        inputs, targets = arguments(family, kind, model)
        flex = flexible.around(model)
        flex.hold_head("default", StaticHead.from_model(model))
        compiled = torch.compile(flex, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(**inputs, **targets).logits, model(**inputs, **targets).logits)


def test_shows_the_labels_of_a_classifier():
    labels = {0: "bad", 1: "good"}
    head = StaticHead.from_model(
        original("bert", "ForSequenceClassification", id2label=labels, label2id={"bad": 0, "good": 1})
    )
    assert head.labels == labels
    assert StaticHead.from_model(original("bert", "ForMaskedLM")).labels is None


def test_the_base_is_the_models_own():
    for family, kind in [("bert", "ForMaskedLM"), ("t5", "ForConditionalGeneration"), ("bart", "ForCausalLM")]:
        model = original(family, kind)
        own = {value.data_ptr() for value in model.parameters()}
        base = base_of(model)
        assert base is not model and {value.data_ptr() for value in base.parameters()} <= own
    assert type(base_of(original("t5", "ForConditionalGeneration"))) is tf.T5Model


def test_says_what_cannot_be_a_head():
    with pytest.raises(HeadError, match="BertModel has no head"):
        StaticHead.from_model(tiny.model("bert"))
    info = BaseInfo.of(flexible.make("bert"))
    for name in ("BertForNothing", "BertConfig", "__name__"):
        with pytest.raises(HeadError, match=f"no model class '{name}'"):
            StaticHead(StaticConfig(name, {}, {}), info)
