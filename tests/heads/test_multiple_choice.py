import pytest
import torch

import flexible
import tiny
from adapterhub.errors import HeadError


def choices(count):
    inputs = tiny.inputs("bert", batch=2 * count)
    return {name: value.view(2, count, -1) for name, value in inputs.items()}


def test_is_the_maths_of_bert():
    reference = tiny.model("bert", "ForMultipleChoice")
    model = flexible.around(reference)
    model.add_multiple_choice_head("h", num_choices=3, layers=1, use_pooler=True)
    model.heads["h"].layers[1].load_state_dict(reference.classifier.state_dict())
    labels = torch.tensor([2, 0])
    expected, answer = reference(**choices(3), labels=labels), model(**choices(3), labels=labels)
    assert type(answer) is type(expected)
    assert torch.equal(answer.logits, expected.logits) and torch.equal(answer.loss, expected.loss)


def test_reads_embeddings_too():
    model = flexible.make("bert")
    model.add_multiple_choice_head("h", num_choices=3)
    ids, mask = choices(3).values()
    embeddings = model.get_input_embeddings()(ids)
    expected = model(ids, attention_mask=mask).logits
    assert torch.equal(model(inputs_embeds=embeddings, attention_mask=mask).logits, expected)


def test_takes_as_many_choices_as_it_was_made_for():
    model = flexible.make("bert")
    model.add_multiple_choice_head("h", num_choices=2, id2label={0: "A", 1: "B"})
    assert model.get_labels() == ["A", "B"]
    with pytest.raises(HeadError, match=r"2 choices; input_ids has shape \(2, 3, 7\)"):
        model(**choices(3))
    with pytest.raises(HeadError, match="id2label"):
        model.add_multiple_choice_head("g", num_choices=3, id2label={0: "A", 1: "B"})
