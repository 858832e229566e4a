"""Runs that train over one base model, in one process: steps, evaluation, and what is kept of them."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, DataCollatorWithPadding, EvalPrediction

from adapterhub.auto import AutoAdapterModel
from adapterhub.composition import BatchSplit
from adapterhub.engine import Trunk
from adapterhub.errors import AdapterHubError, ConfigError
from adapterhub.inference.precision import best_precision
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.backbones import loading, resolve_backbone
from adapterhub.training.classifier import save_classifier
from adapterhub.training.compare import write_json
from adapterhub.training.dropout import fast_dropout
from adapterhub.training.frozen import frozen_modules, half_precision_base, stop_dropout
from adapterhub.training.interruption import Interruption
from adapterhub.training.many.batches import BatchStream, streams_of
from adapterhub.training.many.learner import Learner
from adapterhub.training.many.passes import Passes
from adapterhub.training.many.runs import Run
from adapterhub.training.many.state import load_state, runs_in, save_state
from adapterhub.training.outcome import file_size, is_collapsed, scores
from adapterhub.training.preparing import Task, add_classifier, tokenize
from adapterhub.training.progress import Progress
from adapterhub.training.recipe import Trained, build_trainer
from adapterhub.training.settings import FULL, HEAD, Result
from adapterhub.training.single import ADAPTER, METRICS, adapter_name
from adapterhub.training.trainer import TrainingInterrupted
from adapterhub.training.trunk_cache import TrunkCache
from adapterhub.training.trunk_data import StatesCollator, WithStates

CHECKPOINT = "checkpoint"


class Together:
    """Runs over one base model; ``errors`` say, by their names, why some have no result.

    Raises:
        BackboneError: if the base model cannot be loaded.
        TrunkError: with a trunk cache, if an adapter acts in the lowest layer, or the model cannot run above it.
    """

    def __init__(self, runs: Sequence[Run], folder: Path, trunk_cache: TrunkCache | None = None) -> None:
        name, self.settings = runs[0].settings.model, runs[0].settings
        backbone = resolve_backbone(name)
        with loading(name):
            self.tokenizer = AutoTokenizer.from_pretrained(backbone)
            self.model: FlexibleAdapterMixin = AutoAdapterModel.from_pretrained(backbone)
        self.folder = folder
        self.errors: dict[str, str] = {}
        self._tasks: dict[tuple[str, int], Task] = {}
        added = [run for run in runs if self._add(run)]
        self._cache, self._trunk = trunk_cache, self._below(added) if trunk_cache is not None and added else None
        self.learners = [self._learner(run) for run in added]
        self.streams = streams_of(self.learners)
        for stream in self.streams:
            for learner in stream.learners:
                self.model.requires_grad_(False)  # heads of others too
                self.model.train_adapter(learner.run.adapter)
                learner.plan(len(stream))
        for learner in self.learners:
            for parameter in learner.parameters:
                parameter.requires_grad_(True)
        self.passes = Passes(self.model, self.tokenizer)

    def train(self, progress: Progress | None) -> dict[str, Result]:
        """Train all, save the adapters that are finished, and give their results by name.

        Raises:
            TrainingInterrupted: if it was stopped by a signal; the state is kept.
            TrainingError: if the state that is there cannot be gone on with.
        """
        checkpoint = self.folder / CHECKPOINT
        if runs_in(checkpoint):
            load_state(checkpoint, self.learners)
            for stream in self.streams:
                stream.skip(max((learner.progressed.steps for learner in stream.learners), default=0))
        interruption = Interruption()
        self._tell(progress)
        with self._computing(), interruption.listening():
            while going := [stream for stream in self.streams if stream.learners]:
                self._step(going)
                if ended := [stream for stream in going if stream.at_end_of_epoch]:
                    self._judge(ended)
                if ended or interruption.wanted:
                    save_state(checkpoint, self.learners)
                if interruption.wanted:
                    raise TrainingInterrupted(checkpoint)
                self._tell(progress)
            return self._finish()

    def _add(self, run: Run) -> bool:
        """Add adapter and head of a run to the model; False where that cannot be."""
        try:
            if run.settings.method in (FULL, HEAD):
                raise ConfigError(f"{run.settings.method!r} is no adapter: train it alone")
            add_classifier(self.model, run.settings, run.data, run.adapter)
        except AdapterHubError as error:
            self.errors[run.name] = str(error)
            return False
        return True

    def _below(self, runs: Sequence[Run]) -> Trunk:
        """The layers below the adapters of all runs."""
        self.model.requires_grad_(False)
        self.model.set_active_adapters(BatchSplit(*(run.adapter for run in runs), batch_sizes=1))
        self.model.active_head = None  # a trunk lets the model run on a batch of its own
        return Trunk(self.model)

    def _learner(self, run: Run) -> Learner:
        trainer = build_trainer(run.settings, self._task(run), self.folder)
        trainer.data_collator = StatesCollator(trainer.data_collator)
        return Learner(run, self.model, trainer)

    def _task(self, run: Run) -> Task:
        """The data of a run as tokens, with what lies below all adapters where that is computed once."""
        key = run.data.fingerprint, run.settings.max_length
        if key not in self._tasks:
            train, validation, test = (
                tokenize(rows, self.tokenizer, run.settings.max_length)
                for rows in (run.data.train, run.data.validation, run.data.test)
            )
            self._tasks[key] = Task(self.model, self.tokenizer, self._kept(train), self._kept(validation), test)
        return self._tasks[key]

    def _kept(self, rows: Any) -> Any:
        """Rows with their states in the trunk cache; the rows themselves without one."""
        if self._cache is None or self._trunk is None:
            return rows
        collate = DataCollatorWithPadding(self.tokenizer)
        autocast = torch.bfloat16 if self.precision == "bf16" else None
        return WithStates(rows, self._cache.keep(self._trunk, rows, collate, autocast))

    @property
    def precision(self) -> str:
        """What the base model computes in: ``"bf16"`` or ``"fp32"``."""
        return best_precision() if self.settings.precision == "auto" else self.settings.precision

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Have the base model compute as in a training alone."""
        with ExitStack() as stack:
            if self.precision == "bf16":
                stack.enter_context(half_precision_base(self.model))
            if self._trunk is not None:
                stack.enter_context(self._trunk)
            yield

    def _step(self, streams: Sequence[BatchStream]) -> None:
        """One step of every run that still trains."""
        started = time.perf_counter()
        self._mode(training=True)
        batches = [(stream, stream.next()) for stream in streams]
        learners = [learner for stream in streams for learner in stream.learners]
        for learner in learners:
            learner.begin_step()
        losses: dict[Learner, torch.Tensor] = {}
        with fast_dropout() if self.model.device.type == "cpu" else nullcontext():
            for one in self.passes.of((self._moved(batch), stream.learners) for stream, batch in batches):
                with self._autocast():
                    answers = one.run(self.model)
                torch.stack([loss for _, loss, _ in answers]).sum().backward()
                losses |= {learner: loss for learner, loss, _ in answers}
        for stream in streams:
            for learner in stream.learners:
                learner.update(losses[learner], stream.epoch)
        share = (time.perf_counter() - started) / len(learners)
        for learner in learners:
            learner.progressed.seconds += share

    def _judge(self, streams: Sequence[BatchStream]) -> None:
        """Evaluate the runs of streams that have ended an epoch."""
        epochs = {learner: stream.epoch for stream in streams for learner in stream.learners}
        for learner, found in self._evaluate(list(epochs), "validation").items():
            learner.judge(epochs[learner], found["accuracy"])

    def _evaluate(self, learners: Iterable[Learner], split: str) -> dict[Learner, dict[str, float]]:
        """The scores of runs on a split of their data."""
        sharing: dict[Any, list[Learner]] = {}
        for learner in learners:
            key = learner.run.data.fingerprint, learner.run.settings.max_length
            sharing.setdefault(key, []).append(learner)
        self._mode(training=False)
        found: dict[Learner, dict[str, float]] = {}
        for own in sharing.values():
            started = time.perf_counter()
            found |= self._scores(own, getattr(self._task(own[0].run), split))
            for learner in own:
                learner.progressed.seconds += (time.perf_counter() - started) / len(own)
        return found

    @torch.no_grad()
    def _scores(self, learners: Sequence[Learner], rows: Any) -> dict[Learner, dict[str, float]]:
        logits: dict[Learner, list[torch.Tensor]] = {learner: [] for learner in learners}
        labels = []
        for batch in learners[0].trainer.get_eval_dataloader(rows):
            labels.append(batch["labels"])
            for one in self.passes.of([(self._moved(batch), learners)]):
                with self._autocast():
                    answers = one.run(self.model)
                for learner, _, given in answers:
                    logits[learner].append(given.float().cpu())
        right = torch.cat(labels).cpu().numpy()
        return {learner: scores(EvalPrediction(torch.cat(given).numpy(), right)) for learner, given in logits.items()}

    def _finish(self) -> dict[str, Result]:
        """Save what is trained, at its best epoch, and measure it."""
        self.errors |= {one.run.name: one.progressed.error for one in self.learners if one.progressed.error is not None}
        done = [learner for learner in self.learners if learner.progressed.error is None]
        for learner in done:
            learner.take_best()
        validation, test = (self._evaluate(done, split) for split in ("validation", "test"))
        results = {}
        for learner in done:
            results[learner.run.name] = result = self._result(learner, validation[learner], test[learner])
            folder = self.folder / learner.run.name
            trained = Trained(self.model, self.tokenizer, self._as_alone(learner), result, learner.run.data.pairs)
            save_classifier(trained, folder / ADAPTER)
            write_json(folder / METRICS, asdict(result))
        return results

    def _as_alone(self, learner: Learner) -> str:
        """Give adapter and head of a run the name that they have when it is trained alone: nothing runs any more."""
        name = adapter_name(learner.run.data)
        learner.adapter.name = name
        self.model.engine.hold(learner.adapter)
        self.model.hold_head(name, learner.head, overwrite_ok=True)
        return name

    def _result(self, learner: Learner, validation: Mapping[str, float], test: Mapping[str, float]) -> Result:
        run, done = learner.run, learner.progressed
        return Result(
            settings=run.settings,
            validation_accuracy=validation["accuracy"],
            test_accuracy=test["accuracy"],
            test_macro_f1=test["macro_f1"],
            losses=tuple(done.losses),
            validation_curve=tuple(done.accuracies),
            collapsed=is_collapsed(tuple(done.losses), run.data),
            trained=sum(one.numel() for one in learner.adapter.parameters()),
            head=sum(one.numel() for one in learner.head.parameters()),
            base=sum(one.numel() for one in self.model.base_parameters()),
            file_size=file_size(self.model, run.settings, self._as_alone(learner)),
            seconds=done.seconds,
            peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            precision=self.precision,
        )

    def _mode(self, training: bool) -> None:
        self.model.train(training)
        if training and not self.settings.base_dropout:
            stop_dropout(frozen_modules(self.model))

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _moved(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.model.device) for name, tensor in batch.items()}

    def _tell(self, progress: Progress | None) -> None:
        if progress is None:
            return
        going = [learner for learner in self.learners if learner.active]
        done = sum(one.progressed.steps if one.active else one.total_steps for one in self.learners)
        total = sum(learner.total_steps for learner in self.learners)
        best = max((value for one in self.learners for _, value in one.progressed.accuracies), default=None)
        epoch = max((int(stream.epoch) + 1 for stream in self.streams if stream.learners), default=0)
        what = f"epoch {epoch}, {len(going)} of {len(self.learners)} runs" if going else "testing"
        progress(done, total, what + ("" if best is None else f", best validation {100 * best:.1f} %"))
