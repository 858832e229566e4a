import pytest
import torch
import torch.nn.functional as F
import transformers as tf

import flexible
import tiny
from adapterhub.errors import HeadError

LABELS = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_model_takes_the_head(family):
    model = flexible.make(family)
    model.add_classification_head("h", num_labels=3)
    answer = model(**tiny.inputs(family), labels=LABELS)
    assert answer.logits.shape == (3, 3)
    torch.testing.assert_close(answer.loss, F.cross_entropy(answer.logits, LABELS))
    answer.loss.backward()
    assert all(parameter.grad.any() for parameter in model.heads.parameters())


def test_is_the_maths_of_bert():
    """BERT's own classifier over the pooler is one layer over the pooler's output."""
    reference = tiny.model("bert", "ForSequenceClassification", num_labels=3)
    model = flexible.around(reference)
    model.add_classification_head("h", num_labels=3, layers=1, use_pooler=True)
    model.heads["h"].layers[1].load_state_dict(reference.classifier.state_dict())
    expected = reference(**tiny.inputs("bert"), labels=LABELS)
    answer = model(**tiny.inputs("bert"), labels=LABELS)
    assert torch.equal(answer.logits, expected.logits) and torch.equal(answer.loss, expected.loss)


def test_is_the_maths_of_albert():
    reference = tiny.model("albert", "ForSequenceClassification", num_labels=3)
    model = flexible.around(reference)
    model.add_classification_head("h", num_labels=3, layers=1, use_pooler=True)
    model.heads["h"].layers[1].load_state_dict(reference.classifier.state_dict())
    assert torch.equal(model(**tiny.inputs("albert")).logits, reference(**tiny.inputs("albert")).logits)
    model.add_classification_head("first")
    first = model(**tiny.inputs("albert"), output_hidden_states=True).hidden_states[-1][:, 0]
    torch.testing.assert_close(model(**tiny.inputs("albert")).logits, model.heads["first"].layers(first))


def test_is_the_maths_of_roberta():
    """RoBERTa's own classifier is two layers with a tanh between, over the first token."""
    reference = tiny.model("roberta", "ForSequenceClassification", num_labels=3)
    model = flexible.around(reference)
    model.add_classification_head("h", num_labels=3)
    model.heads["h"].layers[1].load_state_dict(reference.classifier.dense.state_dict())
    model.heads["h"].layers[4].load_state_dict(reference.classifier.out_proj.state_dict())
    assert torch.equal(model(**tiny.inputs("roberta")).logits, reference(**tiny.inputs("roberta")).logits)


@pytest.mark.parametrize(("family", "kind"), [("gpt2", "score"), ("llama", "score"), ("t5", ""), ("bart", "")])
def test_is_the_maths_of_decoders(family, kind):
    changes = {"pad_token_id": 0} if kind else {}
    reference = tiny.model(family, "ForSequenceClassification", num_labels=3, **changes)
    model = flexible.around(reference)
    inputs = tiny.inputs(family)
    inputs.pop("decoder_input_ids", None)
    head = {"num_labels": 3} | ({"layers": 1} if kind else {})
    model.add_classification_head("h", **head)
    if kind:
        model.heads["h"].layers[1].load_state_dict({"weight": reference.score.weight, "bias": torch.zeros(3)})
        inputs["input_ids"][inputs["attention_mask"] == 0] = 0
    else:
        model.heads["h"].layers[1].load_state_dict(reference.classification_head.dense.state_dict())
        model.heads["h"].layers[4].load_state_dict(reference.classification_head.out_proj.state_dict())
        inputs["input_ids"][[0, 1, 2], [6, 3, 4]] = model.config.eos_token_id
    torch.testing.assert_close(model(**inputs).logits, reference(**inputs).logits, atol=1e-6, rtol=0)


def test_one_label_is_regression():
    model = flexible.make("bert")
    model.add_regression_head("h")
    targets = torch.tensor([0.5, -1.0, 2.0])
    answer = model(**tiny.inputs("bert"), labels=targets)
    assert answer.logits.shape == (3, 1) and model.config.problem_type == "regression"
    torch.testing.assert_close(answer.loss, ((answer.logits[:, 0] - targets) ** 2).mean())
    whole = model(**tiny.inputs("bert"), labels=torch.tensor([[1], [2], [3]]))  # integers, one column
    torch.testing.assert_close(whole.loss, F.mse_loss(answer.logits, torch.tensor([[1.0], [2.0], [3.0]])))


def test_gives_the_outputs_of_transformers():
    for family, expected in [
        ("bert", tf.modeling_outputs.SequenceClassifierOutput),
        ("gpt2", tf.modeling_outputs.SequenceClassifierOutput),
        ("bart", tf.modeling_outputs.Seq2SeqSequenceClassifierOutput),
    ]:
        model = flexible.make(family)
        model.add_classification_head("h", num_labels=3)
        model.set_attn_implementation("eager")
        answer = model(**tiny.inputs(family), labels=LABELS, output_hidden_states=True, output_attentions=True)
        assert type(answer) is expected and next(iter(answer)) == "loss"
        assert len(answer.get("hidden_states", answer.get("decoder_hidden_states"))) == 3
        assert len(answer.get("attentions", answer.get("decoder_attentions"))) == 2
        as_tuple = model(**tiny.inputs(family), labels=LABELS, return_dict=False)
        assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], answer.loss)


def test_dropout_acts_before_every_layer():
    model = flexible.make("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=1.0)
    model.add_classification_head("h")
    model.heads["h"].layers[-1].bias.data.fill_(0.5)
    assert model.train()(**tiny.inputs("bert")).logits.eq(0.5).all()
    assert not model.eval()(**tiny.inputs("bert")).logits.eq(0.5).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_in_full_precision_over_a_model_in_half(dtype):
    model = flexible.make("bert").to(dtype)
    model.add_classification_head("h", num_labels=3)
    assert {parameter.dtype for parameter in model.heads.parameters()} == {torch.float32}
    answer = model(**tiny.inputs("bert"), labels=LABELS)
    assert answer.logits.dtype == torch.float32
    answer.loss.backward()
    assert model.heads["h"].layers[1].weight.grad.dtype == torch.float32


def test_a_model_without_a_pooler_says_so():
    model = flexible.make("distilbert")
    model.add_classification_head("h", use_pooler=True)
    with pytest.raises(HeadError, match=r"DistilBertAdapterModel has no pooler.*use_pooler=False"):
        model(**tiny.inputs("distilbert"))
