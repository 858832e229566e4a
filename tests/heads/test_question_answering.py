import pytest
import torch

import flexible
import tiny
from adapterhub.errors import HeadError


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart", "t5"])
def test_is_the_maths_of_transformers(family):
    reference = tiny.model(family, "ForQuestionAnswering")
    model = flexible.around(reference)
    model.add_qa_head("h")
    model.heads["h"].layers[1].load_state_dict(reference.qa_outputs.state_dict())
    inputs = tiny.inputs(family)
    inputs.pop("decoder_input_ids", None)
    targets = {"start_positions": torch.tensor([0, 2, 9]), "end_positions": torch.tensor([[1], [3], [-4]])}
    expected, answer = reference(**inputs, **targets), model(**inputs, **targets)
    assert type(answer) is type(expected)
    for name in ("start_logits", "end_logits", "loss"):
        torch.testing.assert_close(answer[name], expected[name])


def test_needs_both_positions_for_a_loss():
    model = flexible.make("bert")
    model.add_qa_head("h")
    assert model(**tiny.inputs("bert"), start_positions=torch.tensor([0, 1, 2])).loss is None


def test_has_two_labels():
    model = flexible.make("bert")
    with pytest.raises(HeadError, match=r"two labels.*num_labels=3"):
        model.add_qa_head("h", num_labels=3)
