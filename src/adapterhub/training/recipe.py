"""One way to train a text classifier, for adapters, full fine-tuning and the head alone.

The command line, the quickstart and the comparison all train by ``train_classifier``; a method differs from another
in what is trained and in nothing else.
"""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from adapterhub.errors import TrainingError
from adapterhub.inference.precision import training_precision
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.batches import TokenBatchesMixin
from adapterhub.training.data import TextData
from adapterhub.training.dropout import FastDropoutMixin, SeededStepsMixin
from adapterhub.training.frozen import FrozenBaseMixin
from adapterhub.training.outcome import file_size, is_collapsed, scores
from adapterhub.training.preparing import Task, prepare
from adapterhub.training.progress import Progress, StepProgress
from adapterhub.training.settings import FULL, HEAD, Result, Settings
from adapterhub.training.trainer import AdapterTrainer
from adapterhub.training.trunk_cache import TrunkCache


@dataclass
class Trained:
    """A finished run with its model."""

    model: FlexibleAdapterMixin
    tokenizer: PreTrainedTokenizerBase
    name: str
    result: Result
    pairs: bool


class _ClassifierTrainer(SeededStepsMixin, AdapterTrainer):
    """The trainer of adapters."""


class _FullTrainer(SeededStepsMixin, FastDropoutMixin, FrozenBaseMixin, TokenBatchesMixin, Trainer):
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
    trunk_cache: TrunkCache | None = None,
) -> Trained:
    """Train a classifier as ``settings`` say and keep the epoch that is best on validation.

    Checkpoints go to ``folder/checkpoints``; with ``resume`` a run that was interrupted goes on from the last one, for
    which it has to have been started with ``keep_optimizer``. The test split is used once, at the end. With a
    ``trunk_cache`` what layers below the lowest adapter give is computed once.

    Raises:
        TrainingInterrupted: if it was stopped by a signal, with a checkpoint kept.
        TrainingError: if there is no checkpoint to resume from.
        BackboneError: if the base model cannot be loaded.
        TrunkError: with a trunk cache, if the adapter acts in the lowest layer, or the model cannot run above it.
    """
    checkpoints = folder / "checkpoints"
    last = last_checkpoint(checkpoints)
    if resume and last is None:
        raise TrainingError(f"{checkpoints} holds no checkpoint to resume from; leave out --resume to start anew")
    task = prepare(settings, data, name)
    model, tokenizer = task.model, task.tokenizer
    trainer = build_trainer(settings, task, checkpoints, keep_optimizer=keep_optimizer, progress=progress)
    if trunk_cache is not None and isinstance(trainer, AdapterTrainer):
        trainer.use_trunk_cache(trunk_cache)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(last) if resume else None)
    seconds = time.perf_counter() - started
    validation = trainer.evaluate(task.validation)
    test = trainer.evaluate(task.test, metric_key_prefix="test")
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
        collapsed=is_collapsed(losses, data),
        trained=trained,
        head=sum(p.numel() for p in model.heads.parameters()),
        base=sum(p.numel() for p in model.base_parameters()),
        file_size=file_size(model, settings, name),
        seconds=seconds,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        precision="bf16" if trainer.args.bf16 else "fp32",
    )
    return Trained(model, tokenizer, name, result, data.pairs)


def build_trainer(
    settings: Settings,
    task: Task,
    checkpoints: Path,
    *,
    keep_optimizer: bool = False,
    progress: Progress | None = None,
) -> Trainer:
    """The trainer of a run: the seed is set, and nothing has been trained yet."""
    trainer = (_FullTrainer if settings.method in (FULL, HEAD) else _ClassifierTrainer)(
        model=task.model,
        args=_arguments(settings, checkpoints, len(task.train), keep_optimizer),
        train_dataset=task.train,
        eval_dataset=task.validation,
        processing_class=task.tokenizer,
        data_collator=DataCollatorWithPadding(task.tokenizer),
        compute_metrics=scores,
        callbacks=[EarlyStoppingCallback(settings.patience), *([StepProgress(progress)] if progress else [])],
    )
    trainer.tokens_per_batch, trainer.base_dropout = "auto", settings.base_dropout
    trainer.remove_callback(PrinterCallback)  # it prints to standard output, which is for results
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in ``folder`` that is whole: its last file is there."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _arguments(settings: Settings, checkpoints: Path, rows: int, keep_optimizer: bool) -> TrainingArguments:
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
        bf16=training_precision(settings.precision) == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.data_seed,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
