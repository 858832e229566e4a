import copy
import inspect
import pickle
from collections.abc import Mapping

import pytest
import torch
import transformers as tf
from torch import nn

import flexible
import tiny
from adapterhub.errors import AdapterExistsError, ConfigError, HeadError
from adapterhub.heads import FlexibleHeadsMixin, MultiHeadOutput, StaticHead, head_signature

LABELS = torch.tensor([1, 0, 1])
NAMES = {0: "negative", 1: "positive"}


@pytest.fixture
def model():
    made = flexible.make("bert")
    made.add_classification_head("sst-2", id2label=NAMES)
    made.add_tagging_head("ner", num_labels=5, set_active=False)
    return made


# Adding, naming, deleting


def test_the_base_keeps_its_keys_and_answers():
    plain = tiny.model("bert")
    model = flexible.around(tiny.model("bert", "ForMaskedLM"))
    model = flexible.flexible_class(tf.BertModel)(plain.config).eval()
    assert set(model.state_dict()) == set(plain.state_dict())
    model.load_state_dict(plain.state_dict())
    model.add_masked_lm_head("h")
    assert {name for name in model.state_dict() if not name.startswith("heads.h.")} == set(plain.state_dict())
    model.active_head = None
    inputs = tiny.inputs("bert")
    for given in ({}, {"return_dict": False}):
        answer, expected = model(**inputs, **given), plain(**inputs, **given)
        assert type(answer) is type(expected) and torch.equal(answer[0], expected[0])


def test_the_base_may_run_before_there_are_heads():
    class Runs(tf.BertModel):
        def __init__(self, config):
            super().__init__(config)
            self.answer = self(**tiny.inputs("bert"))

    assert flexible.flexible_class(Runs)(tiny.config("bert")).answer.last_hidden_state is not None


@pytest.mark.parametrize("name", ["train", "type", "forward", "sst-2", "a b/c"])
def test_a_head_may_have_any_name(name):
    model = flexible.make("bert")
    model.add_classification_head(name)
    assert model.active_head == name and model(**tiny.inputs("bert")).logits.shape == (3, 2)
    assert f"heads.{name}.layers.1.weight" in model.state_dict()
    model.train().eval()


def test_names_are_taken_once(model):
    before = model.heads["sst-2"]
    with pytest.raises(AdapterExistsError, match=r"'sst-2' already.*overwrite_ok"):
        model.add_classification_head("sst-2")
    with pytest.raises(ConfigError, match="name"):
        model.add_classification_head("a.b")
    assert model.heads["sst-2"] is before and list(model.heads) == ["sst-2", "ner"]
    model.add_classification_head("sst-2", id2label={0: "x", 1: "y", 2: "z"}, overwrite_ok=True, set_active=False)
    assert model.heads["sst-2"] is not before and model.config.id2label[2] == "z"


def test_a_head_that_cannot_be_built_changes_nothing(model):
    with pytest.raises(HeadError):
        model.add_classification_head("sst-2", num_labels=3, id2label=NAMES, overwrite_ok=True)
    assert model.get_labels() == ["negative", "positive"] and model(**tiny.inputs("bert")).logits.shape == (3, 2)


def test_delete(model):
    model.delete_head("ner")
    assert list(model.heads) == ["sst-2"] and model.active_head == "sst-2"
    assert model.config.id2label == NAMES
    model.delete_head("sst-2")
    assert model.active_head is None and not len(model.heads)
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    with pytest.raises(HeadError, match=r"no head 'sst-2'.*none yet"):
        model.delete_head("sst-2")
    model.add_classification_head("a")
    model.add_classification_head("b")
    model.active_head = ["a", "b"]
    model.delete_head("a")
    assert model.active_head == ["b"]


def test_configurations_rebuild_the_heads(model):
    other = flexible.make("bert")
    for name, config in model.get_prediction_heads_config().items():
        other.add_prediction_head_from_config(name, config)
    assert other.get_prediction_heads_config() == model.get_prediction_heads_config()
    other.load_state_dict(model.state_dict())
    assert {"classification", "static", "masked_lm"} <= set(model.head_types)


# Choosing


def test_choice_of_the_head(model):
    inputs = tiny.inputs("bert")
    assert model(**inputs).logits.shape == (3, 2)
    assert model(**inputs, head="ner").logits.shape == (3, 7, 5)
    model.active_head = None
    assert "logits" not in model(**inputs)
    for name in ("nothing", ["sst-2", "nothing"]):
        with pytest.raises(HeadError, match=r"no head 'nothing'.*sst-2, ner"):
            model.active_head = name
        with pytest.raises(HeadError, match="no head 'nothing'"):
            model(**inputs, head=name)
    assert model.active_head is None


def test_surroundings_come_before_the_active_head_and_after_the_argument():
    class Surrounded(flexible.flexible_class(tf.BertModel)):
        def _context_head(self):
            return self.asked

    model = Surrounded(tiny.config("bert")).eval()
    for count, name in enumerate("abc", start=2):
        model.add_classification_head(name, num_labels=count)
    model.active_head = "a"
    widths = []
    for model.asked, given in [(None, {}), ("b", {}), ("b", {"head": "c"})]:
        widths.append(model(**tiny.inputs("bert"), **given).logits.shape[1])
    assert widths == [2, 3, 4]


def test_several_heads(model):
    inputs = tiny.inputs("bert")
    alone = [model(**inputs, head=name).logits for name in ("ner", "sst-2")]
    model.active_head = ["ner", "sst-2"]
    answer = model(**inputs)
    assert isinstance(answer, MultiHeadOutput) and answer.loss is None and model.active_head == ["ner", "sst-2"]
    assert all(torch.equal(answer[i].logits, alone[i]) for i in range(2))
    assert model(**inputs, return_dict=False)[0] is not None
    model.add_classification_head("other", set_active=False)
    model.active_head = ["sst-2", "other"]
    answer = model(**inputs, labels=LABELS)
    assert answer["loss"] == answer[0].loss + answer[1].loss and answer.head_outputs[1] is answer[1]


def test_targets_that_no_head_takes_are_refused(model):
    inputs = tiny.inputs("bert")
    with pytest.raises(HeadError, match=r"start_positions was given, but the active head takes labels"):
        model(**inputs, start_positions=LABELS)
    model.active_head = None
    with pytest.raises(HeadError, match=r"labels was given, but no head is active.*sst-2, ner"):
        model(**inputs, labels=LABELS)
    assert model(**inputs, labels=None).last_hidden_state is not None


def test_arguments_by_position(model):
    inputs = tiny.inputs("bert")
    expected = model(**inputs).logits
    assert torch.equal(model(*inputs.values()).logits, expected)
    assert torch.equal(model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits, expected)


# Labels


def test_pipelines_see_the_labels_of_the_active_head(model):
    config = model.config
    assert config.id2label == NAMES and config.label2id == {"negative": 0, "positive": 1} and config.num_labels == 2
    assert config.problem_type == "single_label_classification"
    model.active_head = "ner"
    assert config.num_labels == 5
    model.active_head = None
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"} and config.problem_type is None
    model.active_head = ["sst-2", "ner"]
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    model.add_masked_lm_head("lm")
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


def test_get_labels(model):
    assert model.get_labels() == ["negative", "positive"] and model.get_labels_dict() == NAMES
    assert model.get_labels("ner") == [f"LABEL_{i}" for i in range(5)]
    model.active_head = None
    with pytest.raises(HeadError, match="name the head"):
        model.get_labels()
    model.add_masked_lm_head("lm")
    assert model.get_labels() is None


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def test_text_classification_pipeline(model):
    pipeline = tf.TextClassificationPipeline(model=model, tokenizer=tokenizer())
    for text in ("good", "bad bad"):
        logits = model(**tokenizer()(text, return_tensors="pt")).logits[0]
        answer = pipeline(text)[0]
        assert answer["label"] == NAMES[int(logits.argmax())]
        assert answer["score"] == pytest.approx(logits.softmax(0).max().item())


def test_token_classification_pipeline(model):
    model.active_head = "ner"
    answer = tf.TokenClassificationPipeline(model=model, tokenizer=tokenizer())("good bad")
    assert [one["word"] for one in answer] == ["good", "bad"] and answer[0]["entity"] in model.get_labels()


# The Trainer


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_signature(family):
    model = flexible.make(family)
    base = next(one for one in type(model).__mro__ if one.__module__.startswith("transformers."))
    own = inspect.signature(base.forward).parameters
    shown = inspect.signature(model.forward).parameters
    assert set(own) - {"self"} | {"labels", "start_positions", "end_positions", "head"} <= set(shown)
    assert tf.utils.generic.find_labels(type(model)) == ["labels"]
    assert next(iter(inspect.signature(type(model).forward).parameters)) == "self"


def test_signature_of_a_base():
    names = list(head_signature(tf.BertModel).parameters)
    assert names[:3] == ["self", "input_ids", "attention_mask"] and names[-1] == "kwargs"
    assert len(names) == len(set(names))


class Rows(torch.utils.data.Dataset):
    def __init__(self, count=16):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(4, 90, (count, 6), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": index % 2, "attention_mask": torch.ones(6, dtype=torch.long)}


def trained(tmp_path, **settings):
    model = flexible.make("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    model.add_classification_head("h")
    settings = {"output_dir": str(tmp_path), "report_to": [], "use_cpu": True, "disable_tqdm": True} | settings
    args = tf.TrainingArguments(max_steps=4, learning_rate=1e-2, optim="sgd", save_strategy="no", **settings)
    trainer = tf.Trainer(model=model, args=args, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    return trainer, model


def test_trainer_trains_and_evaluates(tmp_path):
    trainer, model = trained(tmp_path)
    result = trainer.predict(Rows())
    assert result.predictions.shape == (16, 2) and result.label_ids.tolist() == [0, 1] * 8
    logits = torch.tensor(result.predictions)
    expected = nn.functional.cross_entropy(logits, torch.tensor(result.label_ids)).item()
    assert result.metrics["test_loss"] == pytest.approx(expected, abs=1e-5)
    fresh = flexible.make("bert")
    torch.manual_seed(0)
    fresh.add_classification_head("h")
    assert not torch.equal(model.heads["h"].layers[1].weight, fresh.heads["h"].layers[1].weight)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    _, whole = trained(tmp_path, per_device_train_batch_size=8)
    _, parts = trained(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


# Copies, files, compilation


@pytest.mark.parametrize("kind", ["own", "static"])
def test_deepcopy(kind):
    reference = tiny.model("gpt2", "LMHeadModel")
    model = flexible.around(reference)
    model.add_causal_lm_head("own")
    model.hold_head("static", StaticHead.from_model(reference), set_active=False)
    model.active_head = kind
    other = copy.deepcopy(model)
    assert torch.equal(other(**tiny.inputs("gpt2")).logits, model(**tiny.inputs("gpt2")).logits)
    other.wte.weight.data.zero_()
    assert model(**tiny.inputs("gpt2")).logits.any() and not torch.equal(
        other(**tiny.inputs("gpt2")).logits, model(**tiny.inputs("gpt2")).logits
    )


def test_heads_can_be_pickled():
    model = flexible.make("bert")
    for add in (model.add_classification_head, model.add_tagging_head, model.add_qa_head, model.add_masked_lm_head):
        add(add.__name__)
        head = pickle.loads(pickle.dumps(model.heads[add.__name__]))
        expected = model(**tiny.inputs("bert")).to_tuple()
        model.hold_head("again", head, overwrite_ok=True)
        assert torch.equal(model(**tiny.inputs("bert")).to_tuple()[0], expected[0])


@pytest.mark.parametrize("family", ["bert", "t5", "gpt2", "vit"])
def test_the_whole_model_is_saved_and_loaded(tmp_path, family):
    model = flexible.make(family)
    model.add_classification_head("sst-2", id2label=NAMES)
    if family == "vit":
        model.add_image_classification_head("images", num_labels=4)
    else:
        kinds = {"bert": "ForMaskedLM", "gpt2": "LMHeadModel", "t5": "ForConditionalGeneration"}
        reference = tiny.model(family, kinds[family])
        model.hold_head("static", StaticHead.from_model(reference))
        model.add_tagging_head("train", num_labels=3)
    labels = model.config.id2label
    model.save_pretrained(tmp_path)
    assert model.active_head == list(model.heads)[-1] and model.config.id2label == labels
    assert not hasattr(model.config, "prediction_heads")
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.get_prediction_heads_config() == model.get_prediction_heads_config()
    assert loaded.active_head is None and loaded.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    for name in model.heads:
        expected, answer = (one(**tiny.inputs(family), head=name).logits for one in (model, loaded))
        assert torch.equal(answer, expected)


def test_models_of_one_configuration_do_not_share_heads(model):
    assert not len(type(model)(model.config).heads)


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_compiles_without_a_graph_break(family):
    model = flexible.make(family)
    model.add_classification_head("h")
    inputs = tiny.inputs(family)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    answer, expected = compiled(**inputs, labels=LABELS), model(**inputs, labels=LABELS)
    torch.testing.assert_close(answer.logits, expected.logits)
    torch.testing.assert_close(answer.loss, expected.loss)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_gradient_checkpointing_changes_nothing(family):
    gradients = []
    for checkpointing in (False, True):
        model = flexible.make(family)
        torch.manual_seed(0)
        model.add_classification_head("h")
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for module in model.modules():
            for name in ("dropout", "attention_dropout", "dropout_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**tiny.inputs(family), labels=LABELS).loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and any(name.startswith("heads.") for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


def test_heads_follow_device_mode_and_precision(model):
    assert not model.heads["sst-2"].training
    model.train().add_classification_head("new")
    assert model.heads["new"].training
    double = flexible.make("bert").double()
    double.add_classification_head("h")
    assert double(**tiny.inputs("bert")).logits.dtype == torch.float64
    assert isinstance(double(**tiny.inputs("bert")), Mapping)
    assert issubclass(type(double), FlexibleHeadsMixin)
