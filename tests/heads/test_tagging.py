import pytest
import torch
import torch.nn.functional as F

import flexible
import tiny
from adapterhub.errors import HeadError


@pytest.mark.parametrize(("family", "layer"), [("bert", "classifier"), ("gpt2", "classifier"), ("llama", "score")])
def test_is_the_maths_of_transformers(family, layer):
    reference = tiny.model(family, "ForTokenClassification", num_labels=5)
    model = flexible.around(reference)
    model.add_tagging_head("h", num_labels=5)
    model.heads["h"].layers[1].load_state_dict(getattr(reference, layer).state_dict())
    labels = torch.randint(0, 5, (3, 7))
    labels[:, 4:] = -100
    expected = reference(**tiny.inputs(family), labels=labels)
    answer = model(**tiny.inputs(family), labels=labels)
    assert type(answer) is type(expected) and answer.logits.shape == (3, 7, 5)
    torch.testing.assert_close(answer.logits, expected.logits)
    torch.testing.assert_close(answer.loss, expected.loss)
    torch.testing.assert_close(
        answer.loss, F.cross_entropy(answer.logits[:, :4].flatten(0, 1), labels[:, :4].flatten())
    )


def test_padding_has_no_label():
    model = flexible.make("bert")
    model.add_tagging_head("h", num_labels=5)
    inputs = tiny.inputs("bert")
    labels = torch.randint(0, 5, (3, 7))
    marked = labels.masked_fill(inputs["attention_mask"] == 0, -100)
    assert not torch.equal(labels, marked)
    assert torch.equal(model(**inputs, labels=labels).loss, model(**inputs, labels=marked).loss)


@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name not in ("clip", "whisper", "vit")])
def test_every_text_model_takes_the_head(family):
    model = flexible.make(family)
    model.add_tagging_head("h", id2label={0: "O", 1: "B-PER", 2: "I-PER"}, layers=2)
    inputs = tiny.inputs(family)
    inputs.pop("decoder_input_ids", None)
    answer = model(**inputs, labels=torch.zeros(3, 7, dtype=torch.long))
    assert answer.logits.shape == (3, 7, 3)
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(answer.loss, -answer.logits.log_softmax(-1)[..., 0][kept].mean())


def test_a_model_without_tokens_says_so():
    model = flexible.make("clip")
    model.add_tagging_head("h")
    with pytest.raises(HeadError, match="CLIPAdapterModel has no output for every position"):
        model(**tiny.inputs("clip"))
