"""One run while it trains beside others: its adapter and head in the shared model, and all that is its own."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from adapterhub.engine import Adapter
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.training.many.randomness import OwnRandomness
from adapterhub.training.many.runs import Run


@dataclass
class Progressed:
    """How far a run has come: steps, the curves of a ``Result``, losses since the last point, epochs without a better.

    ``ended`` is True once it trains no more; ``error`` says why it has no result, ``seconds`` is its share of the time.
    """

    steps: int = 0
    losses: list[tuple[float, float]] = field(default_factory=list)
    accuracies: list[tuple[float, float]] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    stale: int = 0
    ended: bool = False
    error: str | None = None
    seconds: float = 0.0


class Learner:
    """A run with its optimiser, learning-rate schedule, random numbers and history.

    ``trainer`` is the one that would train it alone: it knows the optimiser, the schedule and when to log. It does not
    train.
    """

    def __init__(self, run: Run, model: FlexibleAdapterMixin, trainer: Trainer) -> None:
        self.run, self.trainer = run, trainer
        self.adapter, self.head = model.adapters[run.adapter], model.heads[run.adapter]
        self.parameters: list[nn.Parameter] = []
        self.total_steps = 0
        self.randomness = OwnRandomness([*_parts_with_dropout(self.adapter), self.head])
        self.progressed = Progressed()
        self.best: dict[str, Tensor] = {}

    def plan(self, epoch_steps: int) -> None:
        """Make its optimiser and schedule, for so many steps an epoch; nothing else of the model is to train then."""
        self.total_steps = self.run.settings.epochs * epoch_steps
        self.trainer.create_optimizer_and_scheduler(self.total_steps)
        self.parameters = [one for group in self.trainer.optimizer.param_groups for one in group["params"]]

    @property
    def active(self) -> bool:
        """Whether it goes on training."""
        return not self.progressed.ended

    def fail(self, error: str) -> None:
        """End it without a result."""
        self.progressed.ended, self.progressed.error = True, error

    def begin_step(self) -> None:
        """Have its modules draw the random numbers of its next step."""
        self.randomness.seed(self.run.settings.seed, self.progressed.steps)

    def update(self, loss: Tensor, epoch: float) -> None:
        """Do a step of the optimiser with the gradients that are there; ``epoch`` is how many have passed then."""
        done, arguments = self.progressed, self.trainer.args
        norm = nn.utils.clip_grad_norm_(self.parameters, arguments.max_grad_norm)
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            what = "loss" if not math.isfinite(value) else "gradient"
            self.fail(f"the {what} is no finite number in step {done.steps + 1}: try a smaller learning rate")
        else:
            self.trainer.optimizer.step()
            self.trainer.lr_scheduler.step()
            done.steps += 1
            done.waiting.append(value)
            if done.steps % arguments.logging_steps == 0:
                done.losses.append((epoch, math.fsum(done.waiting) / len(done.waiting)))
                done.waiting.clear()
        self.trainer.optimizer.zero_grad()

    def judge(self, epoch: float, accuracy: float) -> None:
        """Note the accuracy on validation after an epoch: keep the best, and end when it gets no better."""
        done, settings = self.progressed, self.run.settings
        better = not done.accuracies or accuracy > max(before for _, before in done.accuracies)
        done.accuracies.append((epoch, accuracy))
        if better:
            self.best = {path: tensor.clone() for path, tensor in self.tensors().items()}
        done.stale = 0 if better else done.stale + 1
        done.ended = done.stale >= settings.patience or epoch >= settings.epochs

    def take_best(self) -> None:
        """Put the values of the best epoch into its adapter and head."""
        self._put(self.best)

    def tensors(self) -> dict[str, Tensor]:
        """The values of its adapter and head as they are now, by paths."""
        parts = {"adapter": self.adapter, "head": self.head}
        return {f"{part}.{path}": tensor for part, one in parts.items() for path, tensor in one.state_dict().items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that has to be kept to go on with it: tensors by paths, and values for JSON."""
        optimizer = self.trainer.optimizer.state_dict()["state"]
        tensors = {f"now/{path}": tensor for path, tensor in self.tensors().items()}
        tensors |= {f"best/{path}": tensor for path, tensor in self.best.items()}
        tensors |= {
            f"optimizer/{index}/{name}": value for index, own in optimizer.items() for name, value in own.items()
        }
        return tensors, asdict(self.progressed)

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on where ``state`` was asked for."""
        curves = {name: [tuple(point) for point in values[name]] for name in ("losses", "accuracies")}
        self.progressed = Progressed(**{**values, **curves})
        self._put(_under(tensors, "now/"))
        self.best = _under(tensors, "best/")
        state: dict[int, dict[str, Tensor]] = {}
        for path, tensor in _under(tensors, "optimizer/").items():
            index, name = path.split("/")
            state.setdefault(int(index), {})[name] = tensor
        optimizer = self.trainer.optimizer
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        schedule = self.trainer.lr_scheduler
        steps = self.progressed.steps
        rates = [base * scale(steps) for base, scale in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        schedule.load_state_dict(
            schedule.state_dict() | {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates}
        )
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        own = self.tensors()
        with torch.no_grad():
            for path, tensor in tensors.items():
                own[path].copy_(tensor)


def _parts_with_dropout(adapter: Adapter) -> list[nn.Module]:
    """The parts of an adapter, if training it draws random numbers."""
    drawing = [value for name, value in _options(adapter.config.to_dict()) if name in ("dropout", "stochastic_depth")]
    return [part for site in adapter.site_names for part in adapter.parts(site)] if any(drawing) else []


def _options(values: Any) -> Iterator[tuple[str, Any]]:
    """Every option of a configuration, those of the members of a union too."""
    if isinstance(values, Mapping):
        yield from values.items()
    for inner in (
        values.values() if isinstance(values, Mapping) else values if isinstance(values, (list, tuple)) else ()
    ):
        yield from _options(inner)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {path.removeprefix(prefix): tensor for path, tensor in tensors.items() if path.startswith(prefix)}
