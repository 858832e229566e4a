"""Heads for rows of their own: those of one shape run as one, and each answers as it would alone."""

import copy
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import BatchSplit, MultiTask, Parallel, Rows
from adapterhub.heads.base import Mlp

NAMES = "abcd"
KINDS = {
    "classification": {"num_labels": 3},
    "multilabel_classification": {"num_labels": 3},
    "tagging": {"num_labels": 3},
    "question_answering": {},
}


def prepared(kind: str = "classification", family: str = "bert") -> Any:
    """A model with an adapter and a head of a kind for each name, and a head of another kind."""
    model = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
    for name in (*NAMES, "other"):
        model.add_adapter(name, config="seq_bn")
    for name in NAMES:
        model.add_custom_head(kind, name, **KINDS[kind])
    model.add_custom_head("classification", "other", num_labels=5)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.heads.parameters()):
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def labels(kind: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    rows, length = inputs["input_ids"].shape
    generator = torch.Generator().manual_seed(1)
    match kind:
        case "classification":
            return {"labels": torch.randint(0, 3, (rows,), generator=generator)}
        case "multilabel_classification":
            return {"labels": torch.randint(0, 2, (rows, 3), generator=generator)}
        case "tagging":
            return {"labels": torch.randint(0, 3, (rows, length), generator=generator)}
        case _:
            spots = torch.randint(0, length, (2, rows), generator=generator)
            return {"start_positions": spots[0], "end_positions": spots[1]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_answers_for_its_rows_as_if_alone(kind: str) -> None:
    model, inputs = prepared(kind), tiny.inputs("bert", batch=5)
    given = inputs | labels(kind, inputs)
    rows = ["b", "a", "b", "d", "c"]
    with AdapterSetup(Rows(rows)):
        together = model(**given)
    assert [own.tolist() for own in together.rows] == [[0, 2], [1], [3], [4]]
    losses = []
    for answer, own in zip(together, together.rows, strict=True):
        with AdapterSetup(rows[own[0]]):
            alone = model(**{name: value[own] for name, value in given.items()})
        for name in alone:
            torch.testing.assert_close(answer[name], alone[name], rtol=1e-6, atol=1e-8)
        losses.append(alone.loss)
    torch.testing.assert_close(together.loss, torch.stack(losses).sum())
    together.loss.backward()
    found = {name: parameter.grad for name, parameter in model.heads.named_parameters()}
    model.zero_grad()
    torch.stack(losses).sum().backward()
    for name, parameter in model.heads.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-8, msg=name)


def test_one_call_of_their_layers_serves_heads_of_a_shape() -> None:
    model, inputs = prepared(), tiny.inputs("bert", batch=6)
    rows = ["a", "b", "other", "c", "d", "a"]
    plain, seen = Mlp.forward, []

    def counting(layers: Mlp, features: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(features.shape))
        return plain(layers, features)

    with mock.patch.object(Mlp, "forward", counting), torch.no_grad(), AdapterSetup(Rows(rows)):
        model(**inputs)
    assert sorted(seen) == [(1, 32), (5, 1, 32)]


def test_heads_of_channels_and_tasks() -> None:
    model, inputs = prepared(family="gpt2"), tiny.inputs("gpt2", batch=2)  # which pools by the mask
    inputs["attention_mask"][0, -2:] = 0
    with torch.no_grad():
        alone = {}
        for name in NAMES:
            with AdapterSetup(name):
                alone[name] = model(**inputs).logits
        with AdapterSetup(Parallel("c", "a", "other", "b")):
            channels = model(**inputs)
        with AdapterSetup(MultiTask("d", "b")):
            tasks = model(**inputs, task_ids=[1, 0])
        with AdapterSetup(BatchSplit("d", "a", batch_sizes=1)):
            split = model(**inputs)
    for name, number in (("c", 0), ("a", 1), ("b", 3)):
        torch.testing.assert_close(channels[number].logits, alone[name], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(tasks.logits, torch.stack([alone["b"][0], alone["d"][1]]), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(split.logits, torch.stack([alone["d"][0], alone["a"][1]]), rtol=1e-6, atol=1e-8)


def test_a_head_that_is_replaced_or_changed_is_seen() -> None:
    model, inputs = prepared(), tiny.inputs("bert", batch=2)

    def check(model: Any) -> None:
        with torch.no_grad():
            with AdapterSetup(Rows(["a", "b"])):
                found = model(**inputs).logits[1]
            with AdapterSetup("b"):
                torch.testing.assert_close(found, model(**inputs).logits[1], rtol=1e-6, atol=1e-8)

    check(model)
    with torch.no_grad():
        model.heads["b"].layers[1].weight.mul_(3)
    check(model)
    twin = copy.deepcopy(model)
    nn.init.ones_(twin.heads["b"].layers[1].weight)
    check(twin)
    check(model)
    model.add_classification_head("b", num_labels=3, overwrite_ok=True)
    model.double()
    check(model)
