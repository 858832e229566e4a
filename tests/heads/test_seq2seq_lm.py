import pytest
import torch

import flexible
import tiny
from adapterhub.errors import HeadError
from adapterhub.heads import StaticHead

KINDS = dict.fromkeys(("t5", "mt5", "bart", "mbart", "m2m-100"), "ForConditionalGeneration") | {"marian": "MTModel"}


def pair(family):
    reference = tiny.model(family, KINDS[family])
    model = flexible.around(reference)
    model.add_seq2seq_lm_head("h")
    inputs = tiny.inputs(family)
    inputs.pop("decoder_input_ids")
    return reference, model, inputs


@pytest.mark.parametrize("family", KINDS)
def test_is_the_maths_of_transformers(family):
    reference, model, inputs = pair(family)
    labels = torch.randint(3, 90, (3, 5))
    labels[1, 3:] = -100
    expected, answer = reference(**inputs, labels=labels), model(**inputs, labels=labels)
    assert type(answer) is type(expected)
    assert torch.equal(answer.logits, expected.logits) and torch.equal(answer.loss, expected.loss)
    read = torch.randint(3, 90, (3, 5))
    given = {"decoder_input_ids": read, "labels": labels}
    assert torch.equal(model(**inputs, **given).logits, reference(**inputs, **given).logits)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_generates_what_transformers_does(family, beams):
    reference, model, inputs = pair(family)
    model.hold_head("static", StaticHead.from_model(reference), set_active=False)
    settings = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    expected = reference.generate(**inputs, **settings)
    assert torch.equal(model.generate(**inputs, **settings), expected)
    assert torch.equal(model.generate(**inputs, **settings, head="static"), expected)


def test_takes_the_bias_that_bart_adds():
    reference, model, inputs = pair("bart")
    reference.final_logits_bias.normal_()
    model.add_seq2seq_lm_head("biased", bias=True)
    model.heads["biased"].bias.data.copy_(reference.final_logits_bias[0])
    labels = torch.randint(3, 90, (3, 5))
    torch.testing.assert_close(model(**inputs, labels=labels).loss, reference(**inputs, labels=labels).loss)


def test_needs_an_encoder_decoder():
    with pytest.raises(HeadError, match=r"encoder-decoder.*causal_lm"):
        flexible.make("gpt2").add_seq2seq_lm_head("h")
