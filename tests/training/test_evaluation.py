"""Scores of a saved adapter, and descriptions of adapters and models."""

from pathlib import Path

import pytest

import tiny
import tokens
from adapterhub import AutoAdapterModel
from adapterhub.errors import BackboneError, CheckpointNotFoundError, DataError, LabelMismatchError
from adapterhub.training.classifier import load_classifier, predict
from adapterhub.training.data import load_data
from adapterhub.training.evaluation import describe_adapter, describe_model, evaluate_classifier, sites_of

NAMES = {"label_names": ("bad", "good")}


def by_hand(adapter: Path, texts: list[str], gold: list[str]) -> tuple[float, float]:
    """Accuracy and macro F1, from true and false positives."""
    guesses = [answer["label"] for answer in predict(*load_classifier(adapter), texts)]
    pairs = list(zip(gold, guesses, strict=True))
    scores = []
    for label in ("bad", "good"):
        true = sum(g == p == label for g, p in pairs)
        scores.append(2 * true / (sum(g == label for g, _ in pairs) + sum(p == label for _, p in pairs)))
    return sum(g == p for g, p in pairs) / len(pairs), sum(scores) / 2


def test_scores_equal_those_by_hand(adapter: Path, labelled: Path) -> None:
    data = load_data(labelled, **NAMES)
    texts = [text for split in data.splits.values() for text in split["text"]]
    gold = [data.labels[label] for split in data.splits.values() for label in split["label"]]
    for split, rows in (("all", slice(None)), ("test", slice(64, None)), ("train", slice(48))):
        values = evaluate_classifier(adapter, str(labelled), split, data_options=NAMES)
        accuracy, macro_f1 = by_hand(adapter, texts[rows], gold[rows])
        assert (values["rows"], values["split"], values["data"]) == (len(texts[rows]), split, "sentences")
        assert values["accuracy"] == pytest.approx(accuracy) and values["macro_f1"] == pytest.approx(macro_f1)


def test_labels_are_matched_by_name_not_by_place(adapter: Path, tmp_path: Path) -> None:
    rows = [{"text": r["text"], "label": ("bad", "good")[int(str(r["label"]))]} for r in tokens.sentences(60)]
    first = evaluate_classifier(adapter, str(tokens.write_csv(tmp_path / "one.csv", rows)), "all")
    turned = {"label_names": ("good", "bad")}
    other = evaluate_classifier(adapter, str(tmp_path / "one.csv"), "all", data_options=turned)
    assert first.pop("data_sha256") != other.pop("data_sha256")  # the order of the labels is of the data
    assert first == other


def test_numbers_stand_for_labels_in_their_order(adapter: Path, labelled: Path) -> None:
    named = evaluate_classifier(adapter, str(labelled), data_options=NAMES)
    numbered = evaluate_classifier(adapter, str(labelled))
    assert numbered == named | {"data_sha256": numbered["data_sha256"]}


def test_other_labels_are_an_error(adapter: Path, tmp_path: Path) -> None:
    rows = [{"text": r["text"], "label": ("no", "yes")[int(str(r["label"]))]} for r in tokens.sentences(60)]
    data = str(tokens.write_csv(tmp_path / "data.csv", rows))
    with pytest.raises(LabelMismatchError, match="labels bad, good, the data no, yes"):
        evaluate_classifier(adapter, data)
    three = [{"text": r["text"], "label": index % 3} for index, r in enumerate(tokens.sentences(60))]
    with pytest.raises(LabelMismatchError):
        evaluate_classifier(adapter, str(tokens.write_csv(tmp_path / "three.csv", three)))


def test_a_split_that_is_not_there_is_an_error(adapter: Path, labelled: Path) -> None:
    with pytest.raises(DataError, match=r"'dev'; the splits are train, validation, test, and all"):
        evaluate_classifier(adapter, str(labelled), "dev")


def test_pairs_are_refused_by_an_adapter_for_single_texts(adapter: Path, tmp_path: Path) -> None:
    rows = [{"premise": r["text"], "hypothesis": "it is good", "label": r["label"]} for r in tokens.sentences(60)]
    with pytest.raises(DataError, match="is given pairs of texts"):
        evaluate_classifier(adapter, str(tokens.write_csv(tmp_path / "pairs.csv", rows)))


def test_an_adapter_is_described_by_its_manifest(adapter: Path, backbone: Path) -> None:
    values = describe_adapter(adapter)
    assert (values["adapter"], values["method"]) == ("sentences", "bottleneck")
    assert values["options"]["reduction_factor"] == 4
    assert values["base_model"]["name"] == str(backbone) and values["base_model"]["model_type"] == "bert"
    assert values["head"] == {"type": values["head"]["type"], "labels": ["bad", "good"]}
    assert values["bytes"] == sum(path.stat().st_size for path in adapter.iterdir())
    model, _ = load_classifier(adapter)
    assert values["parameters"] == model.adapter_summary().rows()[0]["parameters"]


def test_a_head_alone_is_no_adapter(backbone: Path, tmp_path: Path) -> None:
    model = AutoAdapterModel.from_pretrained(backbone)
    model.add_classification_head("h", num_labels=2)
    model.save_head(tmp_path, "h")
    with pytest.raises(CheckpointNotFoundError):
        describe_adapter(tmp_path)


def test_a_model_is_described_without_its_weights(tmp_path: Path) -> None:
    model = AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_adapter("one", config="double_seq_bn")
    model.add_adapter("two")
    model.add_tagging_head("two", num_labels=3)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    values = describe_model(str(tmp_path))
    *adapters, whole = model.adapter_summary().rows()
    shown = [{key: row[key] for key in ("name", "method", "parameters", "percent")} for row in adapters]
    assert values["adapters"] == shown and values["heads"] == ["two"]
    assert values["parameters"] == whole["parameters"]
    assert (values["layers"], values["width"]) == (model.config.num_hidden_layers, model.config.hidden_size)


def test_sites_need_a_configuration_alone(tmp_path: Path) -> None:
    for family in ("gpt2", "t5", "deberta"):
        path = tmp_path / family
        tiny.config(family).save_pretrained(path)
        found = sites_of(str(path / "config.json"))
        assert found.to_dict() == sites_of(str(path)).to_dict()
        assert found.model_class == type(tiny.model(family)).__name__
    with pytest.raises(BackboneError, match="nowhere"):
        sites_of(str(tmp_path / "nowhere"))
