"""One way to train a text classifier, for adapters, full fine-tuning and the head alone.

The command line, the quickstart and the comparison all train by ``train_classifier``; a method differs from another
in what is trained and in nothing else. ``python -m adapterhub.training.recipe RUN.json`` does one run in a process of
its own, so that its peak memory is its own.
"""

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from adapterhub.auto import AutoAdapterModel
from adapterhub.errors import ConfigError, TrainingError
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.data import TextData, load_data
from adapterhub.training.dropout import FastDropoutMixin
from adapterhub.training.progress import Progress, StepProgress
from adapterhub.training.trainer import AdapterTrainer

Precision = Literal["auto", "bf16", "fp32"]
FULL, HEAD = "full", "head"
_COLLAPSED = 0.97  # of the loss of guessing by class frequencies


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside the data.

    ``method`` is ``"full"``, ``"head"``, or the configuration of an adapter (``"seq_bn[reduction_factor=6]"``).
    ``patience`` is the number of epochs without a better validation accuracy after which training ends.
    ``precision`` ``"auto"`` computes in bfloat16 (by autocast) where the processor has instructions for it. ``warmup``
    is a share of all steps.

    Raises:
        ConfigError: for a value that no training can have.
    """

    model: str = "minilm"
    method: str = "seq_bn"
    learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int = 32
    max_length: int = 128
    warmup: float = 0.1
    weight_decay: float = 0.0
    patience: int = 3
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "max_length": 4, "patience": 1, "seed": 0, "learning_rate": 0.0}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ConfigError(f"{name} is at least {value}, not {getattr(self, name)}")
        if not 0.0 <= self.warmup <= 1.0:
            raise ConfigError(f"warmup is a share of all steps, from 0 to 1, not {self.warmup}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is one of {', '.join(get_args(Precision))}, not {self.precision!r}")


@dataclass(frozen=True)
class Result:
    """What a run gave; accuracies and F1 are fractions, seconds are those of training, memory is in bytes.

    ``trained`` counts the parameters trained without the head, ``head`` those of the head, ``base`` those of the base
    model; ``file_size`` is that of all files that have to be kept for the task. ``peak_memory`` is the largest
    resident size of the process.
    """

    settings: Settings
    validation_accuracy: float
    test_accuracy: float
    test_macro_f1: float
    losses: tuple[tuple[float, float], ...]
    validation_curve: tuple[tuple[float, float], ...]
    collapsed: bool
    trained: int
    head: int
    base: int
    file_size: int
    seconds: float
    peak_memory: int
    precision: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """Read back what ``dataclasses.asdict`` gave."""
        curves = {name: tuple(map(tuple, values[name])) for name in ("losses", "validation_curve")}
        return cls(**{**values, **curves, "settings": Settings(**values["settings"])})


@dataclass
class Trained:
    """A finished run with its model."""

    model: FlexibleAdapterMixin
    tokenizer: PreTrainedTokenizerBase
    name: str
    result: Result
    pairs: bool


class _FullTrainer(FastDropoutMixin, Trainer):
    """The plain trainer, whose checkpoints hold the whole model, with steps as fast as those of ``AdapterTrainer``."""


def train_classifier(
    settings: Settings,
    data: TextData,
    folder: Path,
    *,
    resume: bool = False,
    keep_optimizer: bool = False,
    progress: Progress | None = None,
    name: str = "task",
) -> Trained:
    """Train a classifier as ``settings`` say and keep the epoch that is best on validation.

    Checkpoints go to ``folder/checkpoints``; with ``resume`` a run that was interrupted goes on from the last one, for
    which it has to have been started with ``keep_optimizer``. The test split is used once, at the end.

    Raises:
        TrainingInterrupted: if it was stopped by a signal, with a checkpoint kept.
        TrainingError: if there is no checkpoint to resume from.
        BackboneError: if the base model cannot be loaded.
    """
    checkpoints = folder / "checkpoints"
    last = last_checkpoint(checkpoints)
    if resume and last is None:
        raise TrainingError(f"{checkpoints} holds no checkpoint to resume from; leave out --resume to start anew")
    set_seed(settings.seed)
    backbone = resolve_backbone(settings.model)
    with loading(settings.model):
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        model = build_model(settings, data, backbone, name)
    splits = {
        split: tokenize(getattr(data, split), tokenizer, settings.max_length)
        for split in ("train", "validation", "test")
    }
    arguments = _arguments(settings, checkpoints, len(data.train), keep_optimizer)
    trainer_class = _FullTrainer if settings.method in (FULL, HEAD) else AdapterTrainer
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=_metrics,
        callbacks=[EarlyStoppingCallback(settings.patience), *([StepProgress(progress)] if progress else [])],
    )
    trainer.remove_callback(PrinterCallback)  # it prints to standard output, which is for results
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(last) if resume else None)
    seconds = time.perf_counter() - started
    validation = trainer.evaluate(splits["validation"])
    test = trainer.evaluate(splits["test"], metric_key_prefix="test")
    for wrapper in ("forward", "_original_forward"):  # mixed precision, which accelerate leaves around the model
        model.__dict__.pop(wrapper, None)
    history = trainer.state.log_history
    losses = tuple((entry["epoch"], entry["loss"]) for entry in history if "loss" in entry)
    trained = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith("heads."))
    result = Result(
        settings=settings,
        validation_accuracy=validation["eval_accuracy"],
        test_accuracy=test["test_accuracy"],
        test_macro_f1=test["test_macro_f1"],
        losses=losses,
        validation_curve=tuple((e["epoch"], e["eval_accuracy"]) for e in history[:-2] if "eval_accuracy" in e),
        collapsed=_is_collapsed(losses, data),
        trained=trained,
        head=sum(p.numel() for p in model.heads.parameters()),
        base=sum(p.numel() for p in model.base_parameters()),
        file_size=_file_size(model, settings, name),
        seconds=seconds,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        precision="bf16" if arguments.bf16 else "fp32",
    )
    return Trained(model, tokenizer, name, result, data.pairs)


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in ``folder`` that is whole: its last file is there."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def build_model(settings: Settings, data: TextData, backbone: str, name: str) -> FlexibleAdapterMixin:
    """The backbone with a classification head ``name`` (and an adapter of that name), ready to train."""
    model = AutoAdapterModel.from_pretrained(backbone)
    labels = dict(enumerate(data.labels))
    if settings.method not in (FULL, HEAD):
        model.add_adapter(name, config=settings.method)
    model.add_classification_head(name, num_labels=len(labels), id2label=labels)
    if settings.method == FULL:
        model.requires_grad_(True)
    elif settings.method == HEAD:
        model.freeze_model()
    else:
        model.train_adapter(name)
    return model


def tokenize(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids and labels; padding comes later, batch by batch."""

    def encode(batch: dict[str, list[Any]]) -> Any:
        pairs = [batch["text_pair"]] if "text_pair" in batch else []
        return tokenizer(batch["text"], *pairs, truncation=True, max_length=max_length)

    columns = [column for column in ("text", "text_pair") if column in rows.column_names]
    return rows.map(encode, batched=True, remove_columns=columns, load_from_cache_file=False).rename_column(
        "label", "labels"
    )


def best_precision() -> str:
    """``"bf16"`` where the machine computes in bfloat16 faster than in float32, else ``"fp32"``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    cpu = torch.cpu
    fast = getattr(cpu, "_is_avx512_bf16_supported", bool)() or getattr(cpu, "_is_amx_tile_supported", bool)()
    return "bf16" if fast else "fp32"


def _arguments(settings: Settings, checkpoints: Path, rows: int, keep_optimizer: bool) -> TrainingArguments:
    precision = best_precision() if settings.precision == "auto" else settings.precision
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=2 * settings.batch_size,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        save_only_model=not keep_optimizer,
        restore_callback_states_from_checkpoint=keep_optimizer,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=max(1, rows // settings.batch_size // 10),
        train_sampling_strategy="group_by_length",
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


def _metrics(prediction: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    guesses = np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "macro_f1": float(f1_score(prediction.label_ids, guesses, average="macro")),
    }


def _is_collapsed(losses: tuple[tuple[float, float], ...], data: TextData) -> bool:
    """Whether the loss ended where guessing by class frequencies would: nothing was learnt."""
    shares = np.bincount(data.train["label"]) / len(data.train)
    chance = -sum(share * math.log(share) for share in shares if share)
    last = [loss for _, loss in losses[-5:]]
    return bool(last) and not float(np.mean(last)) < _COLLAPSED * chance


def _file_size(model: FlexibleAdapterMixin, settings: Settings, name: str) -> int:
    """Bytes of the files that have to be kept for the task: adapter and head, head, or the whole model."""
    with tempfile.TemporaryDirectory() as folder:
        if settings.method == FULL:
            model.save_pretrained(folder)
        elif settings.method == HEAD:
            model.save_head(folder, name)
        else:
            model.save_adapter(folder, name)
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def main(path: str) -> None:
    """Do the run that a JSON file describes: ``settings``, ``data`` and its options; the result goes to ``result``.

    Checkpoints go beside the file. How far it has come is printed, from 0 to 1, a line for each step.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    run = json.loads(Path(path).read_text(encoding="utf-8"))
    data = load_data(run["data"], **run["data_options"])
    trained = train_classifier(Settings(**run["settings"]), data, Path(path).parent, progress=_print_share)
    Path(run["result"]).write_text(json.dumps(asdict(trained.result)), encoding="utf-8")


def _print_share(done: float, total: float, what: str) -> None:
    print(f"{done / total:.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
