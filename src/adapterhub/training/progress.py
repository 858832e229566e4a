"""Saying how far long work has come, in one way for all of it."""

from collections.abc import Callable
from math import ceil
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# Called with what is done, what there is to do (rows, steps, runs: any unit), and what is under way.
Progress = Callable[[float, float, str], None]


class StepProgress(TrainerCallback):
    """Reports the steps of a training, the epoch, and the accuracy on validation so far."""

    def __init__(self, report: Progress) -> None:
        self.report = report
        self.accuracy = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._tell(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        if metrics and "eval_accuracy" in metrics:
            self.accuracy = f", validation {100 * metrics['eval_accuracy']:.1f} %"

    def _tell(self, state: TrainerState) -> None:
        if state.max_steps:
            epoch = max(1, ceil(state.epoch or 0))
            self.report(state.global_step, state.max_steps, f"epoch {epoch}/{state.num_train_epochs}{self.accuracy}")
