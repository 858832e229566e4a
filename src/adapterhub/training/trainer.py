"""Trainers that know adapters: small checkpoints, resuming, the best model, batches of rows of like length.

The plain ``transformers.Trainer`` trains adapters as well; its checkpoints hold the whole model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from adapterhub.composition import Stack
from adapterhub.engine.calls import TASKS
from adapterhub.errors import TrainingError
from adapterhub.heads.mixin import TARGETS
from adapterhub.methods.fusion import FusionLayer
from adapterhub.model import AdapterMixin
from adapterhub.training.batches import TokenBatchesMixin, has_lengths
from adapterhub.training.checkpoint import load_trained, save_trained
from adapterhub.training.dropout import FastDropoutMixin
from adapterhub.training.frozen import FrozenBaseMixin
from adapterhub.training.interruption import Interruption
from adapterhub.training.trunk_cache import TrunkCache
from adapterhub.training.trunk_training import TrunkCacheMixin


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped from outside after a step; the checkpoint to resume from is ``checkpoint``."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(
            f"training was interrupted; resume it by trainer.train(resume_from_checkpoint={str(checkpoint)!r})"
        )
        self.checkpoint = checkpoint


class _Stop(TrainerCallback):
    """Ends training after the step under way, with a checkpoint, once a signal has come."""

    def __init__(self) -> None:
        self.interruption = Interruption()

    @property
    def wanted(self) -> bool:
        """Whether it has come."""
        return self.interruption.wanted

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.wanted:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """transformers takes any end of training for the end of an epoch: a broken-off one is not to be evaluated."""
        if self.wanted and not float(state.epoch or 0).is_integer():
            control.should_save = control.should_evaluate = False


class _ShortBackward(TrainerCallback):
    """Lets the backward pass end below the lowest part that trains, under gradient checkpointing too.

    For checkpoints of any kind, transformers has the embeddings' output take part; only reentrant ones need that.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        reentrant = (args.gradient_checkpointing_kwargs or {}).get("use_reentrant", False)
        if args.gradient_checkpointing and not reentrant and hasattr(kwargs["model"], "_require_grads_hook"):
            kwargs["model"].disable_input_require_grads()


class _LengthGroups(LengthGroupedSampler):
    """Rows of like length, in an order that depends on seed and epoch alone: a resumed epoch goes on with it."""

    def __init__(self, *args: Any, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed, self.generator = seed, torch.Generator()
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return iter(super().__iter__())


class _AdapterTraining(FastDropoutMixin, FrozenBaseMixin, TrunkCacheMixin, TokenBatchesMixin, Trainer):
    """What the two trainers below add to those of transformers.

    With ``bf16=True`` in the arguments, the frozen base is kept in bfloat16 while it trains or evaluates; see
    ``adapterhub.training.frozen.half_precision_base``.

    Args:
        model: a model with adapters, made ready by ``model.train_adapter(...)``.
        tokenizer: the older name of ``processing_class``.
        adapter_names: a setup to make active, where the model's own is not the one that is meant.
        group_by_length: put rows of like length into one batch, which spares padding; with ``False`` rows are drawn
            in random order. A ``train_sampling_strategy`` other than "random" in the arguments is left as it is.
        tokens_per_batch: fill batches of rows of like length up to this many tokens, padding included, rather than to
            a number of rows; with ``"auto"``, to as many that ``per_device_train_batch_size`` is the mean number of
            rows.
        base_dropout: with ``False``, a base of which nothing trains computes as in evaluation: without dropout, which
            saves time. What adapters and heads drop is dropped either way.
        trunk_cache: compute what layers below the lowest active adapter give once, and not in every epoch: True keeps
            it in memory, a folder in files that later runs find again, a ``TrunkCache`` says more. These layers run
            without dropout then.

    Raises:
        TrainingError: if ``model`` has no adapters.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *positional: Any,
        tokenizer: Any = None,
        processing_class: Any = None,
        adapter_names: Any = None,
        group_by_length: bool = True,
        tokens_per_batch: int | Literal["auto"] | None = None,
        base_dropout: bool = True,
        trunk_cache: TrunkCache | str | Path | bool = False,
        **kwargs: Any,
    ) -> None:
        if model is not None and not isinstance(model, AdapterMixin):
            raise TrainingError(
                f"{type(model).__name__} has no adapters: load it by adapterhub.AutoAdapterModel, or call "
                "adapterhub.init(model); or use transformers.Trainer for it"
            )
        super().__init__(model, args, *positional, processing_class=processing_class or tokenizer, **kwargs)
        if adapter_names is not None:
            self.adapter_model.set_active_adapters(adapter_names)
        if group_by_length and self.args.train_sampling_strategy == "random" and has_lengths(self.train_dataset):
            self.args.train_sampling_strategy = "group_by_length"
        if self.args.label_names is None and (labels := _labels(self.adapter_model)):
            self.label_names = labels
        self.tokens_per_batch, self.base_dropout = tokens_per_batch, base_dropout
        self.use_trunk_cache(TrunkCache.of(trunk_cache))
        self._stop = _Stop()
        self.add_callback(self._stop)
        self.add_callback(_ShortBackward())

    @property
    def adapter_model(self) -> AdapterMixin:
        """The model, without what the accelerator or the compiler put around it."""
        model: AdapterMixin = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return model

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as in transformers; an interruption ends it after the step under way, with a checkpoint.

        Raises:
            TrainingError: if no adapter is active, or nothing would be trained.
            TrainingInterrupted: on SIGINT or SIGTERM; its text says how to resume.
            TrunkError: with a trunk cache, if the model or the adapter leaves no layers to leave out.
        """
        model = self.adapter_model
        if model.active_adapters is None:
            raise TrainingError(
                f"no adapter is active: call model.train_adapter(name); there are {', '.join(model.adapters) or 'none'}"
            )
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise TrainingError("nothing would be trained, every parameter is frozen: call model.train_adapter(name)")
        with self._stop.interruption.listening():
            result = super().train(*args, **kwargs)
        if self._stop.wanted:
            raise TrainingInterrupted(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
        return result

    def check_interrupted(self) -> None:
        """End the computing of hidden states once a signal has come; what is kept in a file is gone on with."""
        if self._stop.wanted:
            raise KeyboardInterrupt

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """As in transformers, but no decay for what a fusion starts at the identity: its regulariser keeps it there."""
        values = {
            id(module.value.weight)
            for module in self.adapter_model.fusions.modules()
            if isinstance(module, FusionLayer) and module.value is not None
        }
        own = dict(model.named_parameters(remove_duplicate=False))  # a tied one has several names
        return [name for name in super().get_decay_parameter_names(model) if id(own[name]) not in values]

    def _set_signature_columns_if_needed(self) -> None:
        """Beside the columns that ``forward`` takes, keep the one that says which task each row is of."""
        super()._set_signature_columns_if_needed()
        if TASKS not in self._signature_columns:
            self._signature_columns.append(TASKS)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        sampler = super()._get_train_sampler(*args, **kwargs)
        if type(sampler) is not LengthGroupedSampler:
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return _LengthGroups(sampler.batch_size, lengths=sampler.lengths, seed=seed)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        *,
        repo_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Publish the active adapter, or the composition that was trained, with the last scores on its card.

        Args:
            commit_message: what is new.
            blocking: has to be True: it returns when the adapter is there.
            token: of a user of the hub, in the place of the one that was logged in with.
            revision: the branch that it becomes the newest version of.
            repo_id: where to, as in ``push_adapter_to_hub``; by default the ``hub_model_id`` of the arguments.
            **options: all else that ``push_adapter_to_hub`` takes.

        Raises:
            TrainingError: without an adapter that is active, or without a place to publish at.
            HubError: as ``adapterhub.push``.
        """
        target, setup = repo_id or self.args.hub_model_id, self.adapter_model.active_adapters
        if target is None or setup is None or not blocking:
            raise TrainingError(
                "push_to_hub publishes the active adapter, at a place that repo_id or hub_model_id of the arguments "
                "names (task/dataset@owner, or owner/name), and waits until it is there (blocking=True)"
            )
        card = {"scores": self._last_scores()} | dict(options.pop("adapter_card_kwargs", None) or {})
        options |= {"commit_message": commit_message, "token": token, "revision": revision, "adapter_card_kwargs": card}
        name = setup.names()[0]
        if setup == Stack(name):
            return self.adapter_model.push_adapter_to_hub(target, name, **options)
        return self.adapter_model.push_adapter_setup_to_hub(target, setup, True, **options)

    def _last_scores(self) -> dict[str, float]:
        """What the last evaluation gave, without losses and times."""
        last: dict[str, Any] = next((entry for entry in reversed(self.state.log_history) if "eval_loss" in entry), {})
        timed = ("_loss", "_runtime", "_per_second")
        return {
            name.removeprefix("eval_"): value
            for name, value in last.items()
            if name.startswith("eval_") and not name.endswith(timed) and isinstance(value, float)
        }

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        save_trained(self.adapter_model, folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained(self.adapter_model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_trained(self.adapter_model, Path(str(self.state.best_model_checkpoint)))


class AdapterTrainer(_AdapterTraining):
    """``transformers.Trainer`` for adapters."""


class Seq2SeqAdapterTrainer(_AdapterTraining, Seq2SeqTrainer):
    """``transformers.Seq2SeqTrainer`` for adapters."""


def _labels(model: AdapterMixin) -> list[str]:
    """The arguments of ``forward`` that are labels, as the active flexible head takes them."""
    active = getattr(model, "active_head", None)
    arguments = model.heads[active].arguments if isinstance(active, str) else ()
    return [name for name in arguments if name in TARGETS]
