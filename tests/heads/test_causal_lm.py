import pytest
import torch

import flexible
import tiny
from adapterhub.heads import StaticHead

CLASSES = {"gpt2": "LMHeadModel"} | dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), "ForCausalLM"
)


def pair(family):
    reference = tiny.model(family, CLASSES[family], tie_word_embeddings=True, pad_token_id=0, eos_token_id=98)
    model = flexible.around(reference)
    model.add_causal_lm_head("h", layers=1, bias=False)
    return reference, model


@pytest.mark.parametrize("family", CLASSES)
def test_is_the_maths_of_transformers(family):
    reference, model = pair(family)
    inputs = tiny.inputs(family)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    expected, answer = reference(**inputs, labels=labels), model(**inputs, labels=labels)
    assert torch.equal(answer.logits, expected.logits) and torch.equal(answer.loss, expected.loss)
    for keep in (1, torch.tensor([0, 3])):
        kept = reference(**inputs, logits_to_keep=keep).logits
        torch.testing.assert_close(model(**inputs, logits_to_keep=keep).logits, kept)


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("beams", [1, 3])
def test_generates_what_transformers_does(family, beams):
    reference, model = pair(family)
    model.hold_head("static", StaticHead.from_model(reference), set_active=False)
    inputs = {name: value.flip(1) for name, value in tiny.inputs(family).items()}  # padded on the left
    settings = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    expected = reference.generate(**inputs, **settings)
    assert expected.shape[1] > 7
    assert torch.equal(model.generate(**inputs, **settings), expected)
    assert torch.equal(model.generate(**inputs, **settings, use_cache=False), expected)
    assert torch.equal(model.generate(**inputs, **settings, head="static"), expected)


def test_by_default_has_a_layer_of_its_own():
    model = flexible.make("gpt2")
    model.add_causal_lm_head("h")
    head = model.heads["h"]
    hidden = model(**tiny.inputs("gpt2"), output_hidden_states=True).hidden_states[-1]
    expected = head.layers[2](torch.nn.functional.gelu(head.layers[0](hidden))) @ model.wte.weight.T + head.bias
    torch.testing.assert_close(model(**tiny.inputs("gpt2")).logits, expected)


def test_keeps_the_cache_except_when_it_learns():
    _, model = pair("gpt2")
    inputs = tiny.inputs("gpt2")
    assert model(**inputs).past_key_values is not None
    assert model(**inputs, labels=inputs["input_ids"]).past_key_values is None
    assert model(**inputs, labels=inputs["input_ids"], use_cache=True).past_key_values is not None
