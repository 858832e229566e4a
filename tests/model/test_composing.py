"""Compositions as a person uses them: heads that follow, fusions added, trained, saved and loaded, whole setups."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

import adapterhub
import tiny
from adapterhub import (
    AdapterFusionConfig,
    AdapterSetup,
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Parallel,
    Rows,
    Split,
    Stack,
)
from adapterhub.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointNotFoundError,
    CompositionError,
    ConfigError,
    CorruptCheckpointError,
    HeadError,
)

LABELS = torch.tensor([0, 1, 1, 0])


def build(family: str = "bert", seed: int = 0) -> Any:
    """A model with adapters a, b, c, of which a and b have heads of two and three classes."""
    torch.manual_seed(seed)
    model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
    for name in "abc":
        model.add_adapter(name, config="seq_bn[reduction_factor=4]")
    for name, count in (("a", 2), ("b", 3)):
        model.add_classification_head(name, num_labels=count)
    for parameter in model.adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def model() -> Any:
    return build()


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    return tiny.inputs("bert", batch=4)


def logits(model: Any, inputs: dict[str, Tensor], setup: Any, head: str, rows: list[int]) -> Tensor:
    with torch.no_grad(), AdapterSetup(setup, head_setup=head):
        return model(**{name: value[rows] for name, value in inputs.items()}).logits


# Heads


@pytest.mark.parametrize(
    ("setup", "given", "expected"),
    [
        (Parallel("a", "b"), {}, [("a", [0, 1, 2, 3]), ("b", [0, 1, 2, 3])]),
        (Stack("c", Parallel("a", "b")), {}, [("a", [0, 1, 2, 3]), ("b", [0, 1, 2, 3])]),
        (BatchSplit("b", "a", batch_sizes=[3, 1]), {}, [("b", [0, 1, 2]), ("a", [3])]),
        (Rows(["a", None, "b", Stack("c", "a")]), {}, [("a", [0, 3]), ("b", [2])]),
        (MultiTask("a", "b"), {"task_ids": [1, 0, 1, 1]}, [("a", [1]), ("b", [0, 2, 3])]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, adapterhub.Composition) else "",
)
def test_heads_follow(model: Any, inputs: dict[str, Tensor], setup: Any, given: Any, expected: Any) -> None:
    model.set_active_adapters(setup)
    with torch.no_grad():
        found = model(**inputs, **given, labels=LABELS)
    assert len(found.head_outputs) == len(expected)
    losses = []
    for output, (head, rows) in zip(found.head_outputs, expected, strict=True):
        own = {"Parallel": head, "Stack": Stack("c", head)}.get(type(setup).__name__, head)
        wanted = torch.cat([logits(model, inputs, _of(setup, own, row), head, [row]) for row in rows])
        torch.testing.assert_close(output.logits, wanted)
        losses.append(torch.nn.functional.cross_entropy(wanted, LABELS[rows]))
        assert torch.isclose(output.loss, losses[-1])
    torch.testing.assert_close(found.loss, sum(losses))


def _of(setup: Any, own: Any, row: int) -> Any:
    return setup[row] if isinstance(setup, Rows) else own


BY_ROW = Rows(["a", "b", "b", "a"])


@pytest.mark.parametrize(
    ("setup", "given", "heads", "left"),
    [
        (Stack(Parallel("c", "a"), BY_ROW), {}, "abba" * 2, ["ca"[n // 4] + "abba"[n % 4] for n in range(8)]),
        (
            Stack(Parallel("c", "a"), BatchSplit("b", "a", batch_sizes=[3, 1])),
            {},
            "bbba" * 2,
            ["cb"] * 3 + ["ca"] + ["ab"] * 3 + ["aa"],
        ),
        (
            Stack(Parallel("c", "a"), MultiTask("a", "b")),
            {"task_ids": [0, 1, 1, 0]},
            "abba" * 2,
            ["ca", "cb", "cb", "ca", "aa", "ab", "ab", "aa"],
        ),
        (Stack(BY_ROW, Parallel("a", "b")), {}, "aaaabbbb", ["aa", "ba", "ba", "aa", "ab", "bb", "bb", "ab"]),
        (Parallel(Stack("c", Parallel("a", "b")), "a"), {}, "aaaabbbbaaaa", ["ca"] * 4 + ["cb"] * 4 + ["a"] * 4),
        (Parallel("b", Stack(Parallel("a", "c"), "a")), {}, "bbbbaaaaaaaa", ["b"] * 4 + ["aa"] * 4 + ["ca"] * 4),
    ],
)
def test_heads_of_rows_beside_channels(
    model: Any, inputs: dict[str, Tensor], setup: Any, given: Any, heads: str, left: list[str]
) -> None:
    """For each row of each channel, one channel after another: its head, and the adapters that act on it in turn."""
    model.set_active_adapters(setup)
    with torch.no_grad():
        found = model(**inputs, **given, labels=LABELS)
    seen = []
    for output, rows in zip(found.head_outputs, found.rows, strict=True):
        wanted = [logits(model, inputs, Stack(*left[n]), heads[n], [int(n) % 4]) for n in rows]
        torch.testing.assert_close(output.logits, torch.cat(wanted))
        assert torch.isclose(output.loss, torch.nn.functional.cross_entropy(output.logits, LABELS[rows % 4]))
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(heads)))


def test_one_head_for_every_channel_of_a_parallel(model: Any, inputs: dict[str, Tensor]) -> None:
    model.set_active_adapters(Parallel("a", "c"))
    model.active_head = "a"
    with torch.no_grad():
        found = model(**inputs)
    for output, adapter in zip(found.head_outputs, "ac", strict=True):
        torch.testing.assert_close(output.logits, logits(model, inputs, adapter, "a", [0, 1, 2, 3]))
    assert found.logits.shape == (8, 2)


def test_rows_with_one_head_answer_as_one(model: Any, inputs: dict[str, Tensor]) -> None:
    model.set_active_adapters(Rows(["a", Stack("c", "a"), "a", "a"]))
    with torch.no_grad():
        found = model(**inputs).logits
    for row, own in enumerate(model.active_adapters):
        torch.testing.assert_close(found[row : row + 1], logits(model, inputs, own, "a", [row]))


def test_what_has_no_head_leaves_the_active_one(model: Any) -> None:
    model.active_head = "b"
    for setup in (Average("a", "c"), Split("a", "c", splits=2), Parallel("a", "c"), "c"):
        model.set_active_adapters(setup)
        assert model.active_head == "b"
    model.add_adapter_fusion(Fuse("a", "c", name="b"))
    model.active_head = "a"
    model.set_active_adapters(Fuse("a", "c", name="b"))
    assert model.active_head == "b"


def test_as_many_heads_as_channels(model: Any, inputs: dict[str, Tensor]) -> None:
    model.set_active_adapters(Parallel("a", "b", "c"))
    model.active_head = ["a", "b"]
    with pytest.raises(HeadError, match=r"2 heads.*3 channels"):
        model(**inputs)


def test_a_class_with_a_head_of_its_own_repeats_its_inputs() -> None:
    model = adapterhub.init(tiny.model("gpt2", "ForSequenceClassification", pad_token_id=0))
    for name in "ab":
        model.add_adapter(name, config="seq_bn[reduction_factor=4, leave_out=[0]]")
        torch.nn.init.normal_(model.adapters[name].at("layers.1.feed_forward").up_proj.weight)
    inputs = tiny.inputs("gpt2", batch=4)
    with torch.no_grad(), AdapterSetup(Parallel("a", "b")):
        both = model(**inputs, labels=LABELS)
    for channel, name in enumerate("ab"):
        with torch.no_grad(), AdapterSetup(name):
            torch.testing.assert_close(both.logits[4 * channel : 4 * channel + 4], model(**inputs).logits)


@pytest.mark.parametrize("flexible", [True, False])
def test_parallel_adapters_of_the_embeddings(flexible: bool, inputs: dict[str, Tensor]) -> None:
    model: Any = build() if flexible else adapterhub.init(tiny.model("bert"))
    for name in "xy":
        model.add_adapter(name, config="lora[target_modules=[word_embeddings, q]]")
        for parameter in model.adapters[name].parameters():
            torch.nn.init.normal_(parameter)
    if flexible:
        model.active_head = None
    with torch.no_grad(), AdapterSetup(Parallel("x", "y")):
        both = model(**inputs).last_hidden_state
    for channel, name in enumerate("xy"):
        with torch.no_grad(), AdapterSetup(name):
            torch.testing.assert_close(both[4 * channel : 4 * channel + 4], model(**inputs).last_hidden_state)


# Fusions


def test_training_a_fusion_trains_it_and_the_head_alone(model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_adapter_fusion("a,b,c")
    model.add_classification_head("target", num_labels=2)
    model.train_adapter_fusion(["a", "b", "c"])
    assert model.active_adapters == Fuse("a", "b", "c") and model.active_head == "target"
    trained = {path.partition(".")[0] for path, p in model.named_parameters() if p.requires_grad}
    assert trained == {"fusions", "heads"} and model.training
    before = {path: p.detach().clone() for path, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**inputs, labels=LABELS).loss.backward()
    optimizer.step()
    changed = {path.partition(".")[0] for path, p in model.named_parameters() if not torch.equal(p, before[path])}
    assert changed == {"fusions", "heads"}
    model.train_adapter_fusion(Fuse("a", "b", "c"), unfreeze_adapters=True)
    assert all(p.requires_grad for p in model.adapters.parameters())
    model.train_adapter("a")
    assert not any(p.requires_grad for p in model.fusions.parameters())


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("flexible", [True, False])
def test_its_regulariser_is_part_of_the_loss(flexible: bool, return_dict: bool, inputs: dict[str, Tensor]) -> None:
    model = build() if flexible else adapterhub.init(tiny.model("bert", "ForSequenceClassification"))
    if not flexible:
        for name in "ab":
            model.add_adapter(name)
    model.add_adapter_fusion(["a", "b"])
    model.train_adapter_fusion(["a", "b"])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for parameter in model.fusions.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    layers = [model.fusions["a,b"].at(f"layers.{layer}.feed_forward") for layer in (0, 1)]
    wanted = sum(0.01 * (torch.eye(32) - layer.value.weight).square().sum() for layer in layers)
    head = {"head": "a"} if flexible else {}
    trained = model(**inputs, labels=LABELS, return_dict=return_dict, **head)[0]
    model.eval()
    plain = model(**inputs, labels=LABELS, return_dict=return_dict, **head)[0]
    torch.testing.assert_close(trained - plain, wanted)
    torch.testing.assert_close(model.get_fusion_regularization_loss(), wanted)
    model.train()
    model.set_active_adapters("a")
    assert model.get_fusion_regularization_loss() is None


def test_attention_is_given_on_demand(model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_adapter_fusion(["a", "b", "c"], name="three")
    model.add_adapter("gated", config="seq_bn[use_gating=True]")
    model.set_active_adapters(Stack("gated", Fuse("a", "b", "c", name="three")))
    given = {"output_adapter_fusion_attentions": True, "output_adapter_gating_scores": True}
    found = model(**inputs, **given, head="a")
    attentions = found.adapter_fusion_attentions["three"]
    assert {layer: list(kinds) for layer, kinds in attentions.items()} == {0: ["output_adapter"], 1: ["output_adapter"]}
    for kinds in attentions.values():
        attention = kinds["output_adapter"]
        assert attention.shape == (4, 7, 3) and attention.requires_grad
        torch.testing.assert_close(attention.sum(-1), torch.ones(4, 7))
    scores = found.adapter_gating_scores["gated"]
    assert {kinds["output_adapter"].shape for kinds in scores.values()} == {(4,)}
    assert not hasattr(model(**inputs, head="a"), "adapter_fusion_attentions")
    assert len(model(**inputs, **given, head="a", return_dict=False)) == 3


def test_values_begin_at_the_identity(model: Any) -> None:
    model.add_adapter_fusion(["a", "b"])
    for layer in (0, 1):
        value = model.fusions["a,b"].at(f"layers.{layer}.feed_forward").value.weight
        torch.testing.assert_close(value, torch.eye(32), rtol=0, atol=1e-5)


def test_a_temperature_cools_in_training_alone(model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_adapter_fusion(["a", "b"], config=adapterhub.DynamicAdapterFusionConfig(temperature=True))
    for parameter in model.fusions.parameters():
        torch.nn.init.normal_(parameter)
    model.set_active_adapters(Fuse("a", "b"))
    first, again = (model.eval()(**inputs, head="a").logits for _ in range(2))
    assert torch.equal(first, again)
    model.train()(**inputs, head="a")
    for layer in (0, 1):
        assert float(model.fusions["a,b"].at(f"layers.{layer}.feed_forward").temperature) == pytest.approx(
            50 - 50 / 1000
        )
    assert not torch.equal(model.eval()(**inputs, head="a").logits, first)


def test_fusions_that_cannot_be_are_refused(model: Any) -> None:
    model.add_adapter_fusion(["a", "b"])
    before = model.state_dict().keys()
    for wrong, error in (
        (lambda: model.add_adapter_fusion(["a", "b"]), AdapterExistsError),
        (lambda: model.add_adapter_fusion(["a", "x"]), AdapterNotFoundError),
        (lambda: model.add_adapter_fusion(["a", "c"], "dynamical"), ConfigError),
        (lambda: model.add_adapter_fusion(["a", "c"], {"values": True}), ConfigError),
        (lambda: model.train_adapter_fusion(Stack("a", "b")), CompositionError),
        (lambda: model.train_adapter_fusion(["a", "c"]), AdapterNotFoundError),
        (lambda: model.delete_adapter_fusion("c,b"), AdapterNotFoundError),
        (lambda: model.set_active_adapters(Fuse("b", "c")), AdapterNotFoundError),
    ):
        with pytest.raises(error):
            wrong()
        assert model.state_dict().keys() == before and model.active_adapters is None
    model.set_active_adapters(Fuse("a", "b"))
    model.delete_adapter_fusion(["a", "b"])
    assert len(model.fusions) == 0 and model.active_adapters is None


# Saved and loaded


def test_a_fusion_saved_and_loaded_gives_the_same(tmp_path: Path, model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_classification_head("target", num_labels=2)
    fuse = Fuse("a", "b", name="target")
    model.add_adapter_fusion(fuse, AdapterFusionConfig(key=False))
    for parameter in model.fusions.parameters():
        torch.nn.init.normal_(parameter)
    model.save_adapter_fusion(tmp_path / "fusion", fuse, with_head=True)
    other = copy.deepcopy(model)
    other.delete_adapter_fusion(fuse)
    other.delete_head("target")
    assert other.load_adapter_fusion(tmp_path / "fusion", set_active=True) == "target"
    assert other.active_adapters == Fuse("a", "b", name="target") and other.fusions["target"].config.key is False
    torch.testing.assert_close(
        logits(other, inputs, fuse, "target", [0, 1]), logits(model, inputs, fuse, "target", [0, 1])
    )
    with pytest.raises(AdapterExistsError):
        other.load_adapter_fusion(tmp_path / "fusion")
    other.delete_adapter_fusion(fuse)
    other.delete_adapter("b")
    with pytest.raises(AdapterNotFoundError, match="b"):
        other.load_adapter_fusion(tmp_path / "fusion", load_as="new")


SETUP = Stack("c", Average("a", Fuse("a", "b", name="both"), weights=[1, 3]))


def test_a_setup_travels_as_one_folder(tmp_path: Path, model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_adapter_fusion(Fuse("a", "b", name="both"))
    model.add_classification_head("target")
    model.save_adapter_setup(tmp_path, SETUP, "target")
    other = build(seed=0)
    for name in "abc":
        other.delete_adapter(name)
    for name in "ab":
        other.delete_head(name)
    setup, head = other.load_adapter_setup(tmp_path, set_active=True)
    assert (setup, head, other.active_head) == (SETUP, "target", "target")
    torch.testing.assert_close(
        logits(other, inputs, SETUP, "target", [0, 1]), logits(model, inputs, SETUP, "target", [0, 1])
    )


@pytest.mark.parametrize("damage", ["setup", "adapter", "fusion", "head", "outside", "gone"])
def test_a_setup_that_is_damaged_changes_nothing(tmp_path: Path, model: Any, damage: str) -> None:
    model.add_adapter_fusion(Fuse("a", "b", name="both"))
    model.add_classification_head("target")
    folder = tmp_path / "setup"
    model.save_adapter_setup(folder, SETUP, "target")
    path = folder / "adapter_setup.json"
    if damage == "setup":
        path.write_text(path.read_text()[:-40])
    elif damage == "outside":
        path.write_text(path.read_text().replace('"b"', '"../b"'))
    elif damage == "gone":
        path.unlink()
    else:
        where = {"adapter": "b", "fusion": "both", "head": "target"}[damage]
        weights = next((folder / where).glob(f"{damage}.*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-8])
    other = build()
    for name in "abc":
        other.delete_adapter(name)
    for name in "ab":
        other.delete_head(name)
    before = other.state_dict().keys()
    with pytest.raises((CorruptCheckpointError, CheckpointNotFoundError)):
        other.load_adapter_setup(folder)
    assert other.state_dict().keys() == before and not other.adapters and not other.fusions and not other.heads


def test_fusions_come_back_with_the_whole_model(tmp_path: Path, model: Any, inputs: dict[str, Tensor]) -> None:
    model.add_adapter_fusion(Fuse("a", "b", name="both"), "static")
    model.save_pretrained(tmp_path)
    other = type(model).from_pretrained(tmp_path)
    assert other.fusions["both"].config == model.fusions["both"].config
    setup = Fuse("a", "b", name="both")
    torch.testing.assert_close(logits(other, inputs, setup, "a", [0, 1]), logits(model, inputs, setup, "a", [0, 1]))


def test_a_trainer_keeps_the_best_fusion(tmp_path: Path) -> None:
    model = build()
    model.add_adapter_fusion(["a", "b", "c"])
    model.add_classification_head("target")
    model.train_adapter_fusion(["a", "b", "c"])
    ids = [{"input_ids": [3, 4, 5 + row], "labels": row % 2} for row in range(8)]
    arguments = TrainingArguments(str(tmp_path), num_train_epochs=2, save_strategy="epoch", report_to=[], use_cpu=True)
    trainer = adapterhub.AdapterTrainer(model=model, args=arguments, train_dataset=ids)
    trainer.train()
    trained = {path: p.detach().clone() for path, p in model.fusions.named_parameters()}
    for parameter in model.fusions.parameters():
        parameter.data.zero_()
    last = max(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    trainer._load_from_checkpoint(str(last))
    for path, parameter in model.fusions.named_parameters():
        assert torch.equal(parameter, trained[path])
