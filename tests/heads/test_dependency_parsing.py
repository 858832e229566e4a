"""Biaffine parsing: against a closed form, one pair at a time, and against ``adapters`` 1.3.0."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainingArguments

import flexible
import tiny
from adapterhub import AdapterTrainer, AutoAdapterModel
from adapterhub.errors import HeadError
from adapterhub.heads import BaseInfo, build_head
from adapterhub.heads.dependency_parsing import merged_words

PARSING = Path(__file__).parents[1] / "golden" / "parsing"
STARTS = torch.tensor([[1, 2, 4, 6, 0, 0, 0], [1, 4, 5, 6, 7, 0, 0], [1, 3, 1, 1, 1, 1, 1]])
WORDS = ([(1, 2), (2, 4), (4, 6)], [(1, 4), (4, 5), (5, 6), (6, 7)], [(1, 3)])
ARCS = torch.tensor([[2, 0, 1, -100, 5, 5, 5], [3, 3, 0, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1]])
RELATIONS = torch.tensor([[0, 1, 2, -100, 0, 0, 0], [1, 1, 2, 0, 0, 0, 0], [2, 1, 1, 1, 1, 1, 1]])


def made(family: str = "bert") -> Any:
    model = flexible.make(family)
    model.add_dependency_parsing_head("tree", id2label={0: "nsubj", 1: "obj", 2: "root"})
    with torch.no_grad():
        for parameter in model.heads["tree"].parameters():
            parameter.normal_(std=0.3)
    return model


def pairwise(model: Any, hidden: Tensor, words: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Scores of one sentence, pair by pair, by the equation: of heads ``[n, n + 1]``, of relations as well."""
    arc, relation = model.heads["tree"].biaffine_arcs.weight[0], model.heads["tree"].biaffine_rels.weight
    one = torch.ones(1)
    vectors = [hidden[first:last].mean(0) for first, last in words]
    heads = [hidden[0], *vectors]
    arcs = [[torch.cat((x, one)) @ arc @ y for y in heads] for x in vectors]
    relations = [[[torch.cat((x, one)) @ w @ torch.cat((y, one)) for w in relation] for y in heads] for x in vectors]
    return torch.tensor(arcs), torch.tensor(relations)


@torch.no_grad()
def test_equation_pair_by_pair() -> None:
    model = made()
    inputs = tiny.inputs("bert")
    output = model(**inputs, word_starts=STARTS, labels_arcs=ARCS, labels_rels=RELATIONS)
    hidden = model(**inputs, word_starts=STARTS, output_hidden_states=True).hidden_states[-1]
    assert output.arc_preds.shape == (3, 7, 8) and output.rel_preds.shape == (3, 7, 8, 3)
    losses: tuple[list[Tensor], list[Tensor]] = ([], [])
    for row, words in enumerate(WORDS):
        count = len(words)
        arcs, relations = pairwise(model, hidden[row], words)
        torch.testing.assert_close(output.arc_preds[row, :count, : count + 1], arcs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.rel_preds[row, :count, : count + 1], relations, rtol=1e-4, atol=1e-5)
        assert (output.arc_preds[row, :, count + 1 :] == -torch.inf).all()  # what is no word is no head
        for word in range(count):
            gold = ARCS[row, word]
            losses[0].append(F.cross_entropy(arcs[word], gold))
            losses[1].append(F.cross_entropy(relations[word, gold], RELATIONS[row, word]))
    wanted = torch.stack(losses[0]).mean() + torch.stack(losses[1]).mean()
    torch.testing.assert_close(output.loss, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    model = made().train()
    model(**tiny.inputs("bert"), word_starts=STARTS, labels_arcs=ARCS, labels_rels=RELATIONS).loss.backward()
    for parameter in model.heads["tree"].parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any()


def test_a_word_alone_is_its_tokens_mean() -> None:
    hidden = torch.randn(3, 7, 4)
    words, there = merged_words(hidden, STARTS)
    assert there.sum(1).tolist() == [3, 4, 1]
    torch.testing.assert_close(words[0, 1], hidden[0, 2:4].mean(0))
    assert not words[0, 3:].any()
    shorter, _ = merged_words(hidden, STARTS[:, :5])
    torch.testing.assert_close(shorter, words)
    longer, _ = merged_words(hidden, F.pad(STARTS, (0, 9)))
    torch.testing.assert_close(longer, words)


def test_same_as_adapters() -> None:
    """Where there are words; beyond them, adapters lets vectors of zeros be heads."""
    saved = load_file(PARSING / "expected.safetensors")
    model: Any = AutoAdapterModel.from_config(
        tiny.config("bert", hidden_size=8, num_attention_heads=2, hidden_dropout_prob=0.0)
    )
    assert model.load_head(PARSING) == "tree"
    head = model.heads["tree"].eval()
    for name, value in saved.items():
        if name.startswith("head/"):
            assert torch.equal(head.state_dict()[name.removeprefix("head/")], value)
    words, there = merged_words(saved["hidden"], saved["word_starts"])
    heads = torch.cat((saved["hidden"][:, :1], words), dim=1)
    found = {"arc": head.biaffine_arcs(words, heads).squeeze(-1), "rel": head.biaffine_rels(words, heads)}
    for row, count in enumerate(there.sum(1)):
        for name, scores in found.items():
            expected = saved[f"{name}_preds"][row, :count, : count + 1]
            torch.testing.assert_close(scores[row, :count, : count + 1], expected)


def test_saved_and_built_again() -> None:
    model = made()
    head = model.heads["tree"]
    again = build_head(head.to_dict(), BaseInfo.of(model))
    again.load_state_dict(head.state_dict())
    assert model.get_labels("tree") == ["nsubj", "obj", "root"]


def test_without_word_starts() -> None:
    with pytest.raises(HeadError, match="word_starts"):
        made()(**tiny.inputs("bert"))


def test_trainer_gives_it_its_labels(tmp_path: Path) -> None:
    model: Any = AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_adapter("tree")
    model.add_dependency_parsing_head("tree", num_labels=3)
    model.train_adapter("tree")
    inputs = tiny.inputs("bert")
    rows = [
        {name: value[row].tolist() for name, value in inputs.items()}
        | {
            "word_starts": STARTS[row].tolist(),
            "labels_arcs": ARCS[row].tolist(),
            "labels_rels": RELATIONS[row].tolist(),
        }
        for row in range(3)
    ]
    args = TrainingArguments(tmp_path, max_steps=2, report_to=[], use_cpu=True, per_device_eval_batch_size=3)
    trainer = AdapterTrainer(model, args, train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows))
    trainer.train()
    assert trainer.label_names == ["labels_arcs", "labels_rels"]
    metrics = trainer.evaluate()
    with torch.no_grad():
        expected = model.eval()(**inputs, word_starts=STARTS, labels_arcs=ARCS, labels_rels=RELATIONS).loss
    assert metrics["eval_loss"] == pytest.approx(float(expected), rel=1e-4)
