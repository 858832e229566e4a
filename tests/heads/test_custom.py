"""Heads of a person's own, written as for ``adapters``."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

import tiny
from adapterhub import AutoAdapterModel
from adapterhub.errors import HeadError
from adapterhub.heads import PredictionHead

LABELS = torch.tensor([0, 2, 1])


class Weighted(PredictionHead):
    """A classifier that weighs rows."""

    def __init__(self, model: Any, head_name: str, **options: Any) -> None:
        super().__init__(head_name)
        self.config = options
        self.build(model)

    def forward(
        self,
        outputs: Any,
        cls_output: Any = None,
        attention_mask: Any = None,
        return_dict: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> Any:
        logits = super().forward(cls_output)
        labels, loss = kwargs.pop("labels", None), None
        if labels is not None:
            loss = (F.cross_entropy(logits, labels, reduction="none") * (1 if weights is None else weights)).mean()
        if return_dict:
            return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)
        return (loss, logits) if loss is not None else (logits,)


class Bare(PredictionHead):
    """One that answers with a tensor."""

    def __init__(self, model: Any, head_name: str) -> None:
        super().__init__(head_name)

    def forward(self, outputs: Any, cls_output: Any = None, **kwargs: Any) -> Any:
        return cls_output


OPTIONS = {"num_labels": 3, "layers": 2, "activation_function": "tanh", "label2id": {"a": 0, "b": 1, "c": 2}}


@pytest.fixture
def model() -> Any:
    made: Any = AutoAdapterModel.from_config(tiny.config("bert")).eval()
    made.register_custom_head("weighted", Weighted)
    made.add_custom_head("weighted", "mine", **OPTIONS)
    return made


def test_runs_with_labels_and_arguments_of_its_own(model: Any) -> None:
    inputs = tiny.inputs("bert")
    base = model(**inputs, output_hidden_states=True)
    assert model.active_head == "mine" and model.heads["mine"].arguments == ("labels", "weights")
    head = model.heads["mine"]
    hidden = base.hidden_states[-1][:, 0]
    expected = torch.tanh(hidden @ head[1].weight.T + head[1].bias) @ head[4].weight.T + head[4].bias
    torch.testing.assert_close(base.logits, expected)
    weights = torch.tensor([0.0, 1.0, 2.0])
    found = model(**inputs, labels=LABELS, weights=weights)
    torch.testing.assert_close(found.loss, (F.cross_entropy(expected, LABELS, reduction="none") * weights).mean())
    loss, _ = model(**inputs, labels=LABELS, return_dict=False)
    torch.testing.assert_close(loss, F.cross_entropy(expected, LABELS))
    assert model.get_labels() == ["a", "b", "c"] and model.custom_heads["weighted"] is Weighted


def test_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    inputs = tiny.inputs("bert")
    logits = model(**inputs).logits
    model.save_head(tmp_path / "head", "mine")
    model.load_head(tmp_path / "head", load_as="again")
    assert torch.equal(model(**inputs, head="again").logits, logits)
    model.save_pretrained(tmp_path / "model")
    whole: Any = AutoAdapterModel.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(whole(**inputs, head="mine").logits, logits)


def test_built_by_hand(model: Any) -> None:
    head = Weighted(model, "other", **OPTIONS)
    model.add_prediction_head(head)
    assert model.active_head == "other" and model.heads["other"] is head
    assert model(**tiny.inputs("bert")).logits.shape == (3, 3)
    model.delete_head("other")
    assert model.active_head is None


def test_trains_with_an_adapter(model: Any) -> None:
    model.add_adapter("mine")
    model.train_adapter("mine")
    model(**tiny.inputs("bert"), labels=LABELS).loss.backward()
    assert all(parameter.grad.any() for parameter in model.heads["mine"].parameters())


def test_refused(model: Any) -> None:
    with pytest.raises(HeadError, match="layers"):
        model.add_custom_head("weighted", "wrong", **(OPTIONS | {"layers": 0}))
    model.register_custom_head("bare", Bare)
    model.add_custom_head("bare", "bare")
    with pytest.raises(HeadError, match="ModelOutput"):
        model(**tiny.inputs("bert"))
    with pytest.raises(HeadError, match="cannot be made"):
        model.add_custom_head("bare", "more", num_labels=2)
    with pytest.raises(HeadError, match="start_positions"):
        model(**tiny.inputs("bert"), head="mine", start_positions=LABELS)
