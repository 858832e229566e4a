"""Saving and loading adapters and heads in whole models."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, TextClassificationPipeline

import adapterhub
import tiny
from adapterhub import AutoAdapterModel, AutoModelForSequenceClassification
from adapterhub.errors import (
    AdapterExistsError,
    BaseModelMismatchError,
    CheckpointNotFoundError,
    HeadError,
    LabelMismatchError,
    TensorMismatchError,
)

LABELS = {0: "negative", 1: "positive"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny.model("bert").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def output(model: PreTrainedModel, family: str = "bert") -> Tensor:
    model.eval()
    with torch.no_grad():
        return next(v for v in model(**tiny.inputs(family)).to_tuple() if torch.is_tensor(v))


def trained(base: Path) -> PreTrainedModel:
    model = AutoAdapterModel.from_pretrained(base)
    model.add_adapter("a", config="double_seq_bn[reduction_factor=4]")
    model.add_classification_head("a", id2label=LABELS)
    model.train_adapter("a")
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.heads.parameters()):
            parameter.normal_(std=0.3)
    return model


def test_adapter_and_head_come_back_to_the_bit(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    model.save_adapter(tmp_path / "a", "a", meta_dict={"note": "mine"})
    fresh = AutoAdapterModel.from_pretrained(base)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert fresh.load_adapter(tmp_path / "a", set_active=True) == "a"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(output(fresh), output(model))
    assert fresh.active_head == "a"
    assert fresh.config.id2label == LABELS


def test_a_static_head_comes_back_to_its_class_and_to_a_flexible_model(base: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        base, id2label=LABELS, label2id={"negative": 0, "positive": 1}
    )
    model.add_adapter("a", set_active=True)
    model.save_adapter(tmp_path / "a", "a")
    again = AutoModelForSequenceClassification.from_pretrained(base)
    assert not torch.equal(output(again), output(model))
    again.load_adapter(tmp_path / "a", set_active=True)
    assert torch.equal(output(again), output(model))
    assert again.config.id2label == LABELS
    flexible = AutoAdapterModel.from_pretrained(base)
    flexible.load_adapter(tmp_path / "a", set_active=True)
    assert torch.equal(output(flexible), output(model))


def test_loading_under_another_name_and_without_some_layers(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    model.save_adapter(tmp_path / "a", "a")
    assert model.load_adapter(tmp_path / "a", load_as="b", leave_out=[0]) == "b"
    assert {site.split(".")[1] for site in model.adapters["b"].site_names} == {"1"}
    model.set_active_adapters("a", skip_layers=[0])
    expected = output(model)
    model.set_active_adapters("b")
    assert torch.equal(output(model), expected)


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart", "vit", "deberta-v2"])
def test_every_kind_of_model(family: str, tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model(family))
    model.add_adapter("a", config="houlsby_2019[reduction_factor=4]", set_active=True)
    for parameter in model.adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_adapter(tmp_path / "a", "a")
    fresh = adapterhub.init(tiny.model(family))
    fresh.load_adapter(tmp_path / "a", set_active=True)
    assert torch.equal(output(fresh, family), output(model, family))


def test_all_adapters_and_heads_alone(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    model.add_adapter("b")
    model.save_all_adapters(tmp_path / "all")
    model.save_head(tmp_path / "head", "a")
    fresh = AutoAdapterModel.from_pretrained(base)
    for name in "ab":
        fresh.load_adapter(tmp_path / "all" / name)
    assert list(fresh.adapters) == ["a", "b"]
    fresh.load_head(tmp_path / "head", load_as="c")
    fresh.load_head(tmp_path / "all" / "a", load_as="d")
    for name in "cd":
        fresh.active_head = name
        fresh.set_active_adapters("a")
        fresh.active_head = name
        model.set_active_adapters("a")
        assert torch.equal(output(fresh), output(model))


def test_a_full_model_keeps_its_adapters_and_heads(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    model.save_pretrained(tmp_path / "full")
    fresh = AutoAdapterModel.from_pretrained(tmp_path / "full")
    fresh.set_active_adapters("a")
    assert torch.equal(output(fresh), output(model))
    plain = AutoModel.from_pretrained(tmp_path / "full")  # transformers alone reads the base model
    model.set_active_adapters(None)
    model.active_head = None
    assert torch.equal(output(plain), output(model))


def test_pipelines_show_the_labels(base: Path) -> None:
    from transformers import BertTokenizer

    vocabulary = base / "vocab.txt"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    vocabulary.write_text("\n".join(words))
    tokenizer = BertTokenizer.from_pretrained(base)
    answers = TextClassificationPipeline(model=trained(base).eval(), tokenizer=tokenizer)(["good", "bad bad"])
    assert {answer["label"] for answer in answers} <= set(LABELS.values())


def test_refusals_leave_the_model_as_it_was(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    folder = tmp_path / "a"
    model.save_adapter(folder, "a")
    other = adapterhub.init(tiny.model("bert", seed=3))
    fresh = AutoAdapterModel.from_pretrained(base)
    static = AutoModelForSequenceClassification.from_pretrained(base)
    narrow = adapterhub.init(tiny.model("bert", hidden_size=64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refused = [
        (AdapterExistsError, "there is an adapter 'a' already", lambda: model.load_adapter(folder)),
        (CheckpointNotFoundError, "is not a folder", lambda: model.load_adapter(tmp_path / "none")),
        (BaseModelMismatchError, "made for another base model.*other weights", lambda: other.load_adapter(folder)),
        (BaseModelMismatchError, "hidden size 32 then, 64 here", lambda: narrow.load_adapter(folder)),
        (
            TensorMismatchError,
            "of another shape",
            lambda: narrow.load_adapter(folder, with_head=False, allow_other_base=True),
        ),
        (LabelMismatchError, "has the labels", lambda: fresh.load_adapter(folder, id2label={0: "no", 1: "yes"})),
        (HeadError, "has no place for the head 'a' of kind classification", lambda: static.load_adapter(folder)),
        (HeadError, "has no head 'zz' to save", lambda: model.save_head(tmp_path / "x", "zz")),
        (CheckpointNotFoundError, "holds no head_config.json", lambda: fresh.load_head(tmp_path)),
    ]
    for kind, message, call in refused:
        with pytest.raises(kind, match=message):
            call()
    for one in (other, fresh, static, narrow):
        assert len(one.adapters) == 0
    assert len(fresh.heads) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other.load_adapter(folder, with_head=False, allow_other_base=True)
    assert "a" in other.adapters


def test_a_head_that_a_checkpoint_brings_is_kept(tmp_path: Path) -> None:
    original = tiny.model("roberta", "ForMaskedLM")
    original.save_pretrained(tmp_path / "mlm")
    model = AutoAdapterModel.from_pretrained(tmp_path / "mlm")
    assert model.active_head == "default"
    torch.testing.assert_close(output(model, "roberta"), output(original, "roberta"), rtol=0, atol=1e-6)


def test_overwriting_takes_the_place_of_an_active_adapter(base: Path, tmp_path: Path) -> None:
    model = trained(base)
    model.save_adapter(tmp_path / "a", "a")
    expected = output(model)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.zero_()
    assert not torch.equal(output(model), expected)
    model.load_adapter(tmp_path / "a", overwrite_ok=True)
    model.active_head = "a"
    assert torch.equal(output(model), expected)
