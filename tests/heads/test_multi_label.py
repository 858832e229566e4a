import torch

import flexible
import tiny


def test_each_label_is_on_its_own():
    model = flexible.make("bert")
    model.add_classification_head("h", num_labels=4, multilabel=True)
    labels = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    answer = model(**tiny.inputs("bert"), labels=labels)
    chance = answer.logits.sigmoid()
    expected = -torch.where(labels.bool(), chance, 1 - chance).log().mean()
    torch.testing.assert_close(answer.loss, expected)
    torch.testing.assert_close(model(**tiny.inputs("bert"), labels=labels.float()).loss, expected)
    assert model.config.problem_type == "multi_label_classification"
    assert model.heads["h"].to_dict()["head_type"] == "multilabel_classification"


def test_one_label_is_no_regression():
    model = flexible.make("bert")
    model.add_classification_head("h", num_labels=1, multilabel=True)
    answer = model(**tiny.inputs("bert"), labels=torch.ones(3, 1))
    torch.testing.assert_close(answer.loss, -answer.logits.sigmoid().log().mean())
