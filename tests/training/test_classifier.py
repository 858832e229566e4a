"""Saved classifiers: reloaded, used on texts and pairs, refused where they do not fit."""

import shutil
from pathlib import Path

import pytest
import torch

import tokens
from adapterhub import AutoAdapterModel
from adapterhub.errors import BackboneError, CheckpointError, DataError
from adapterhub.training.classifier import load_classifier, predict, split_pairs
from adapterhub.training.data import load_data
from adapterhub.training.settings import Settings
from adapterhub.training.single import train_adapter


@pytest.fixture(scope="module")
def pair_adapter(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"premise": r["text"], "hypothesis": "it is good", "label": r["label"]} for r in tokens.sentences(60)]
    folder = tmp_path_factory.mktemp("pairs")
    data = load_data(tokens.write_csv(folder / "pairs.v1.csv", rows))
    settings = Settings(str(backbone), "seq_bn", 1e-2, epochs=1, batch_size=8, max_length=16, precision="fp32")
    train_adapter(settings, data, folder)
    return folder / "adapter"


def test_scores_are_those_of_the_model(adapter: Path) -> None:
    model, tokenizer = load_classifier(adapter)
    assert not model.training and list(model.active_adapters.flatten()) == ["sentences"]
    texts = ["the film is good", "the soup was very awful and not nice", "a"]
    for text, answer in zip(texts, predict(model, tokenizer, texts, token_budget=16), strict=True):
        with torch.no_grad():
            scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert answer["text"] == text
        assert answer["label"] == ("bad", "good")[int(scores.argmax())]
        assert answer["score"] == pytest.approx(scores.max().item(), abs=1e-6)


def test_progress_counts_the_texts(adapter: Path) -> None:
    seen: list[tuple[float, float, str]] = []
    predict(*load_classifier(adapter), ["the film is good"] * 3, progress=lambda *told: seen.append(told))
    assert seen == [(1, 3, "texts"), (2, 3, "texts"), (3, 3, "texts")]


def test_long_texts_are_cut_as_in_training(pair_adapter: Path) -> None:
    model, tokenizer = load_classifier(pair_adapter)
    assert tokenizer.model_max_length == 16
    assert len(predict(model, tokenizer, [("good " * 500, "bad")])) == 1


def test_pairs_are_read_as_pairs(pair_adapter: Path) -> None:
    model, tokenizer = load_classifier(pair_adapter, pairs=True)
    pair = ("the film is good", "it is bad")
    (answer,) = predict(model, tokenizer, [pair])
    with torch.no_grad():
        logits = model(**tokenizer(*pair, return_tensors="pt")).logits
    assert answer["score"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-6)
    assert answer["text"] == "the film is good / it is bad"


def test_pairs_and_single_texts_are_not_mixed_up(adapter: Path, pair_adapter: Path) -> None:
    with pytest.raises(DataError, match="trained on single texts, and is given pairs"):
        load_classifier(adapter, pairs=True)
    with pytest.raises(DataError, match="trained on pairs of texts, and is given single"):
        load_classifier(pair_adapter, pairs=False)


def test_lines_become_pairs_at_the_tab(adapter: Path, pair_adapter: Path) -> None:
    assert split_pairs(adapter, ["a\tb", "c"]) == ["a\tb", "c"]
    assert split_pairs(pair_adapter, ["a\tb", "\tc"]) == [("a", "b"), ("", "c")]
    for line in ("a", "a\tb\tc"):
        with pytest.raises(DataError, match="two texts with a tab between them"):
            split_pairs(pair_adapter, [line])


def test_another_copy_of_the_base_model_will_do(adapter: Path, backbone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(backbone, copy)
    texts = ["the film is good"]
    assert predict(*load_classifier(adapter, str(copy)), texts) == predict(*load_classifier(adapter), texts)
    with pytest.raises(BackboneError, match="nowhere"):
        load_classifier(adapter, str(tmp_path / "nowhere"))


def test_only_adapters_with_a_head_that_classifies(backbone: Path, tmp_path: Path) -> None:
    model = AutoAdapterModel.from_pretrained(backbone)
    model.add_adapter("a")
    model.save_adapter(tmp_path / "bare", "a", with_head=False)
    with pytest.raises(CheckpointError, match="without a head"):
        load_classifier(tmp_path / "bare")
    model.add_masked_lm_head("a")
    model.save_adapter(tmp_path / "lm", "a")
    with pytest.raises(CheckpointError, match="does not classify"):
        load_classifier(tmp_path / "lm", str(backbone))
    with pytest.raises(CheckpointError, match="nothing"):
        load_classifier(tmp_path / "nothing")
