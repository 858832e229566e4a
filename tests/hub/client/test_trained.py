"""What was trained is published with its scores, and measured again by somebody else."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments

import adapterhub
import tokens
from adapterhub.errors import HubError, TrainingError, UploadRefusedError
from adapterhub.training.evaluation import evaluate_classifier
from adapterhub.verifying import verify
from hub.server.running import Running

NAMES = {"label_names": ("bad", "good")}


def test_a_trainer_publishes_what_it_trained_with_the_last_scores(ann: Running, backbone: Path, tmp_path: Path) -> None:
    model = adapterhub.AutoAdapterModel.from_pretrained(backbone)
    model.add_adapter("a")
    model.add_classification_head("a", num_labels=2)
    model.train_adapter("a")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    rows = [{**tokenizer(row["text"]), "labels": row["label"]} for row in tokens.sentences(16)]
    trainer = adapterhub.AdapterTrainer(
        model,
        TrainingArguments(str(tmp_path / "out"), max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True),
        DataCollatorWithPadding(tokenizer),
        rows,
        eval_dataset=rows,
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
    )
    trainer.train()
    with pytest.raises(TrainingError, match="repo_id"):
        trainer.push_to_hub()
    scores = trainer.evaluate()
    done = trainer.push_to_hub("Trained for two steps", repo_id="sentiment/imdb@ann", datasets_tag="imdb")
    told = adapterhub.get_adapter_info(f"@{done.repository}")
    (claim,) = told["scores"]
    assert (claim["metric"], claim["verified"]) == ("accuracy", False)
    assert claim["value"] == pytest.approx(scores["eval_accuracy"])


def test_somebody_else_measures_it_again(ann: Running, adapter: Path, labelled: Path, backbone: Path) -> None:
    with pytest.raises(UploadRefusedError, match="owner/name"):
        adapterhub.push(adapter, "sentiment/rotten-tomatoes@ann")
    done = adapterhub.push(adapter, "sentiment/rotten-tomatoes@ann", name="sentences", base="tiny/bert")
    options = {"data_options": NAMES, "model": str(backbone)}
    mine = verify(f"@{done.repository}", str(labelled), **options)
    assert mine["verified"] is False
    adapterhub.login(ann.token("bob"), ann.url)
    theirs = verify(f"@{done.repository}", str(labelled), **options)
    measured = evaluate_classifier(adapter, str(labelled), "test", str(backbone), data_options=NAMES)
    assert theirs["verified"] is True
    assert theirs["metrics"] == {name: measured[name] for name in ("accuracy", "macro_f1")}
    low, high = theirs["intervals"]["accuracy"].values()
    assert low < measured["accuracy"] <= high or measured["accuracy"] == 1.0
    told = adapterhub.get_adapter_info(f"@{done.repository}")
    by = {(score["metric"], score["by"]): score for score in told["scores"]}
    assert by["accuracy", "bob"]["verified"] and not by["accuracy", "ann"]["verified"]
    assert by["accuracy", "bob"]["evidence"]["data_sha256"] == measured["data_sha256"]


def test_data_that_nobody_has_named_is_asked_for(ann: Running, adapter: Path, labelled: Path, backbone: Path) -> None:
    done = adapterhub.push(adapter, "ann/of-nothing", base="tiny/bert")
    with pytest.raises(HubError, match="task/dataset"):
        verify(f"@{done.repository}", str(labelled), model=str(backbone), data_options=NAMES)
