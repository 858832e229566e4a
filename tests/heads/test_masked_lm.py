import pytest
import torch

import flexible
import tiny

PARTS = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "albert": ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
}


@pytest.mark.parametrize("family", PARTS)
def test_is_the_maths_of_transformers(family):
    reference = tiny.model(family, "ForMaskedLM", hidden_act="gelu")
    model = flexible.around(reference)
    model.add_masked_lm_head("h")
    dense, norm, bias = PARTS[family]
    head = model.heads["h"]
    head.layers[0].load_state_dict(reference.get_submodule(dense).state_dict())
    head.layers[2].load_state_dict(reference.get_submodule(norm).state_dict())
    head.bias.data.copy_(reference.get_parameter(bias))
    labels = torch.where(torch.rand(3, 7) < 0.5, tiny.inputs(family)["input_ids"], -100)
    expected, answer = reference(**tiny.inputs(family), labels=labels), model(**tiny.inputs(family), labels=labels)
    assert type(answer) is type(expected)
    torch.testing.assert_close(answer.logits, expected.logits)
    torch.testing.assert_close(answer.loss, expected.loss)


def test_runs_over_a_model_in_half():
    model = flexible.make("bert").bfloat16()
    model.add_masked_lm_head("h")
    answer = model(**tiny.inputs("bert"), labels=tiny.inputs("bert")["input_ids"])
    assert answer.logits.dtype == torch.bfloat16 and answer.loss.dtype == torch.float32
    answer.loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.heads.parameters())
