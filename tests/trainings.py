"""Short trainings of a tiny classifier with an adapter, for tests of trainers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedModel, TrainingArguments

from adapterhub import AdapterTrainer, AutoAdapterModel
from tokens import sentences


def build(folder: Path, config: str = "seq_bn[reduction_factor=4]") -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoAdapterModel.from_pretrained(folder)
    model.add_adapter("a", config=config)
    model.add_classification_head("a", num_labels=2)
    model.train_adapter("a")
    return model


def rows(folder: Path, count: int = 48) -> list[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [{**tokenizer(row["text"]), "labels": row["label"]} for row in sentences(count)]


def arguments(output: Path, **changes: Any) -> TrainingArguments:
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "logging_steps": 1}
    settings |= {"save_steps": 4, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    return TrainingArguments(str(output), **(settings | changes))


def trainer(
    folder: Path, output: Path, model: PreTrainedModel | None = None, kind: type = AdapterTrainer, **changes: Any
):  # type: ignore[no-untyped-def]
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    data = rows(folder)
    callbacks = changes.pop("callbacks", None)
    return kind(
        model=model or build(folder),
        args=arguments(output, **changes),
        train_dataset=data,
        eval_dataset=data[:16],
        data_collator=collator,
        callbacks=callbacks,
    )


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)


def losses(done: Any) -> list[float]:
    return [entry["loss"] for entry in done.state.log_history if "loss" in entry]
