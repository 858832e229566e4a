"""Sentence polarity trained by one library's own trainer, either for a whole run or a few steps at a time.

Arguments: library (ours, plain, tuned) and a JSON object of options. ``ours`` is what ``adapterhub train`` does;
``plain`` is ``AdapterTrainer`` of ``adapters`` as it comes: float32, rows in random order; ``tuned`` is the same with
bfloat16 by autocast and batches of rows of like length.
"""

import csv
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from worker import backbone
from workers import ROOT, report

DATA = Path(os.environ.get("ADAPTERHUB_DATA", ROOT.parent / "shared" / "data")) / "rotten_tomatoes"
METHOD, ROWS, LENGTH = "seq_bn[reduction_factor=6]", 32, 128


def our_trainer(rate: float, epochs: int, seed: int, rows: int | None, folder: Path) -> tuple[Any, Any]:
    """The trainer of ``adapterhub train``, and the test split."""
    from adapterhub.training.data import load_data
    from adapterhub.training.preparing import prepare
    from adapterhub.training.recipe import build_trainer
    from adapterhub.training.settings import Settings

    settings = Settings(method=METHOD, learning_rate=rate, epochs=epochs, seed=seed)
    data = load_data(DATA)
    data = replace(data, **{name: split.select(range(len(split))[:rows]) for name, split in data.splits.items()})
    task = prepare(settings, data)
    return build_trainer(settings, task, folder), task.test


def peers_trainer(rate: float, epochs: int, seed: int, rows: int | None, folder: Path, tuned: bool) -> tuple[Any, Any]:
    """The trainer of ``adapters``, with batches and number of epochs as ours, and the test split."""
    from adapters import AdapterTrainer, AutoAdapterModel
    from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments, set_seed

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(backbone())
    model = AutoAdapterModel.from_pretrained(backbone())
    model.add_adapter("task", config=METHOD)
    model.add_classification_head("task", num_labels=2)
    model.train_adapter("task")
    splits = {}
    for split in ("train", "validation", "test"):
        with (DATA / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            texts = list(csv.DictReader(file))[:rows]
        splits[split] = [
            {**tokenizer(row["text"], truncation=True, max_length=LENGTH), "labels": int(row["label"])} for row in texts
        ]
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=ROWS,
        per_device_eval_batch_size=2 * ROWS,
        learning_rate=rate,
        num_train_epochs=epochs,
        seed=seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        save_only_model=True,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        bf16=tuned,
        group_by_length=tuned,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    trainer = AdapterTrainer(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
    )
    return trainer, splits["test"]


class Clock(TrainerCallback):
    """Seconds since training began at each evaluation, with its accuracy."""

    def __init__(self) -> None:
        self.curve: list[tuple[float, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if "eval_accuracy" in metrics:  # not that of the test split
            self.curve.append((time.perf_counter() - self.started, metrics["eval_accuracy"]))


class Paced(TrainerCallback):
    """Takes as many steps as each line from the parent asks for, and answers with the seconds of each.

    A step is all that the trainer does between the ends of two: it draws a batch, and logs, too. Ask for fewer steps
    than an epoch has: after it the model is evaluated.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        if len(self.seconds) == self.wanted:
            print("@" + json.dumps(self.seconds), flush=True)
            self._wait()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        self.wanted, self.seconds, self.last = int(line), [], time.perf_counter()


def main(library: str, options: str = "{}") -> None:
    chosen = {"rate": 1e-3, "epochs": 1000, "seed": 0, "rows": None} | json.loads(options)
    with tempfile.TemporaryDirectory() as folder:
        if library == "ours":
            trainer, test = our_trainer(**chosen, folder=Path(folder))
        else:
            trainer, test = peers_trainer(**chosen, folder=Path(folder), tuned=library == "tuned")
        names = ("torch", "transformers", "adapterhub" if library == "ours" else "adapters")
        about = {name: version(name) for name in names} | {"threads": torch.get_num_threads()}
        trainer.callback_handler.callbacks = [
            one for one in trainer.callback_handler.callbacks if type(one).__name__ != "PrinterCallback"
        ]
        if options == "{}":
            report(about)
            trainer.add_callback(Paced())
            trainer.train()
            return
        clock = Clock()
        trainer.add_callback(clock)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        curve = list(clock.curve)
        tested = trainer.evaluate(test, metric_key_prefix="test")["test_accuracy"]
        report(chosen | {"library": library, "seconds": seconds, "curve": curve, "test": tested, "about": about})


if __name__ == "__main__":
    main(*sys.argv[1:])
