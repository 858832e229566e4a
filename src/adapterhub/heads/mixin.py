"""Prediction heads on a base model: add, choose, run and delete them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from adapterhub.composition import Composition, Parallel
from adapterhub.engine.named import ADDED, HoldsNamedModules, NamedModules, check_name
from adapterhub.engine.shares import names_and_weights
from adapterhub.errors import AdapterExistsError, HeadError
from adapterhub.heads.adding import AddHeadMixin
from adapterhub.heads.bank import HeadBank
from adapterhub.heads.base import (
    BaseInfo,
    Head,
    HeadContext,
    build_head,
    head_class,
    register_head,
    registered_heads,
)
from adapterhub.heads.routing import assigned_rows, for_channels
from adapterhub.heads.together import SideBySide
from adapterhub.heads.vocabulary import with_decoder_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Model
else:
    _Model = object

# transformers' Trainer takes every argument whose name has "label" in it for one that each data set has: these two of
# one kind of head are not in the signature, and reach it by name all the same.
_UNSIGNED = ("labels_arcs", "labels_rels")
TARGETS = ("labels", "start_positions", "end_positions", *_UNSIGNED)
_ADDED = (*TARGETS, "word_starts", "logits_to_keep", "head", "return_dict")


@dataclass
class MultiHeadOutput(ModelOutput):
    """What several active heads answered (``output[0]``, ..., in a loop too), and the sum of their losses.

    Where each head answered for some rows alone, ``rows`` are their numbers, head by head.
    """

    loss: Tensor | None = None
    head_outputs: tuple[ModelOutput, ...] | None = None
    rows: tuple[Tensor, ...] | None = None

    @property
    def logits(self) -> Tensor:
        """The logits of all rows in order, where every head gives some of the same shape."""
        heads = super().__getitem__("head_outputs")
        logits = torch.cat([head.logits for head in heads])
        return logits if self.rows is None else logits[torch.cat(self.rows).argsort().to(logits.device)]

    @property
    def past_key_values(self) -> Any:
        """The cache of the base model, which all heads share."""
        return super().__getitem__("head_outputs")[0].get("past_key_values")

    def __iter__(self) -> Iterator[Any]:
        """What each head answered."""
        return iter(super().__getitem__("head_outputs"))

    def __len__(self) -> int:
        """How many heads answered."""
        return len(super().__getitem__("head_outputs"))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__("head_outputs")[key] if isinstance(key, int) else super().__getitem__(key)


def head_signature(base: type[PreTrainedModel]) -> inspect.Signature:
    """The signature of ``base.forward`` and, by keyword, the arguments of heads.

    transformers' ``Trainer`` reads in it which columns of a data set are of use, and which of them are labels.
    """
    own = inspect.signature(base.forward).parameters
    plain = [one for one in own.values() if one.kind is not one.VAR_KEYWORD]
    names = [name for name in _ADDED if name not in own and name not in _UNSIGNED]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    return inspect.Signature([*plain, *added, rest])


class FlexibleHeadsMixin(AddHeadMixin, HoldsNamedModules, _Model):
    """Makes a base model one with heads: ``class BertAdapterModel(FlexibleHeadsMixin, BertModel)``."""

    heads: NamedModules[Head]
    head_banks: dict[str, HeadBank]
    _side_by_side: SideBySide
    _active_head: str | tuple[str, ...] | Composition | None = (
        None  # a base class may run the model before there are heads
    )
    # The arguments of the base model's forward by position; set for each class below.
    _base_arguments: ClassVar[tuple[str, ...]] = ()
    # Losses are means over a batch, so the Trainer is to divide them by its number of accumulation steps.
    accepts_loss_kwargs: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = (one for one in cls.__mro__ if issubclass(one, PreTrainedModel))
        base: Any = next((one for one in bases if not issubclass(one, FlexibleHeadsMixin)), None)
        if base is None or "forward" in cls.__dict__:
            return

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self._forward_heads(*args, **kwargs)

        made: Any = forward
        made.__signature__ = head_signature(base)
        cls.forward = made
        _, *own = inspect.signature(base.forward).parameters.values()
        cls._base_arguments = tuple(one.name for one in own if one.kind is not one.VAR_KEYWORD)

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.init_heads()

    def init_heads(self) -> None:
        """Give the model the heads that its configuration names (those it was saved with); none is active."""
        config = self.config
        self.heads = NamedModules()
        self.head_banks = {}
        self._active_head = None
        self._side_by_side = SideBySide()
        self._own_labels = (config.id2label, config.label2id, config.problem_type)
        for name, values in config.__dict__.pop("prediction_heads", {}).items():
            self.add_prediction_head_from_config(name, values, set_active=False)

    # Adding and deleting

    def add_prediction_head(self, head: Head, overwrite_ok: bool = False, set_active: bool = True) -> None:
        """Add a head that was built already, under the name that it has; see ``hold_head``."""
        self.hold_head(head.name, head, overwrite_ok, set_active)

    def hold_head(self, head_name: str, head: Head, overwrite_ok: bool = False, set_active: bool = True) -> None:
        """Add a head that was built already, moving it to the device of the base model.

        Raises:
            AdapterExistsError: if there is a head of this name, unless ``overwrite_ok``.
            ConfigError: if the name cannot be part of a state-dict key.
        """
        self._check_free(head_name, overwrite_ok)
        head.name = head_name
        self.heads[head_name] = self._placed(head).train(self.training)
        self.active_head = head_name if set_active else self.active_head

    def add_head_bank(self, name: str, like: Head, capacity: int) -> HeadBank:
        """A new bank of ``capacity`` heads like one, which can be made active by its name as a head can.

        Raises:
            AdapterExistsError: if a head or a bank has the name.
            ConfigError: if there is to be no slot.
        """
        self._check_free(name, overwrite_ok=False)
        self.head_banks[name] = HeadBank(name, self._placed(like), capacity)
        return self.head_banks[name]

    def _placed(self, head: Head) -> Head:
        """A head on the device of the base model's last part, in its data type."""
        last = [one for path, one in self.named_parameters() if path.partition(".")[0] not in ADDED][-1]
        dtype = torch.float32 if head.full_precision and self.dtype.itemsize < 4 else self.dtype
        return head.to(device=last.device, dtype=dtype)

    def add_prediction_head_from_config(
        self, head_name: str, config: Mapping[str, Any], overwrite_ok: bool = False, set_active: bool = True
    ) -> None:
        """Add a new head: ``config`` is what ``get_prediction_heads_config`` shows of one.

        Raises:
            HeadError: for an unknown head type or option, or one that does not fit the base model.
            AdapterExistsError: if there is a head of this name, unless ``overwrite_ok``.
        """
        self._check_free(head_name, overwrite_ok)
        self.hold_head(head_name, build_head(config, BaseInfo.of(self)), overwrite_ok, set_active)

    def add_custom_head(
        self, head_type: str, head_name: str, overwrite_ok: bool = False, set_active: bool = True, **options: Any
    ) -> None:
        """Add a head of any registered type; ``options`` are the fields of its configuration."""
        self.add_prediction_head_from_config(head_name, {"head_type": head_type, **options}, overwrite_ok, set_active)

    @staticmethod
    def register_custom_head(identifier: str, head: type[Head]) -> None:
        """Make a head of your own known, for all models: ``adapterhub.heads.register_head``."""
        register_head(identifier, head)

    @property
    def custom_heads(self) -> dict[str, type[Head]]:
        """Heads by their type, apart from those of this package."""
        kinds = {name: head_class(name) for name in registered_heads()}
        return {name: kind for name, kind in kinds.items() if kind.__module__.partition(".")[0] != "adapterhub"}

    @torch.no_grad()
    def average_head(
        self,
        head_name: str,
        head_list: "Sequence[str] | Mapping[str, float]",
        weights: "Sequence[float] | None" = None,
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add a head whose parameters are the weighted sum of those of others; arguments as of ``average_adapter``.

        Raises:
            AdapterExistsError: if there is a head of this name, unless ``overwrite_ok``.
            HeadError: if one of the others is not there, or is of another configuration.
            ConfigError: for weights that cannot be.
        """
        names, shares = names_and_weights(head_list, weights, normalize_weights)
        self._check_free(head_name, overwrite_ok)
        heads = [self._held(name) for name in names]
        if any(head.to_dict() != heads[0].to_dict() for head in heads):
            raise HeadError(f"heads {', '.join(names)} are of other kinds, sizes or labels, and cannot be averaged")
        made = build_head(heads[0].to_dict(), BaseInfo.of(self))
        states = [head.state_dict() for head in heads]
        made.load_state_dict(
            {
                path: torch.stack([share * state[path] for share, state in zip(shares, states, strict=True)]).sum(0)
                for path in states[0]
            }
        )
        self.hold_head(head_name, made, overwrite_ok, set_active)

    def delete_head(self, head_name: str) -> None:
        """Delete a head; if it was active, the others that were stay so.

        Raises:
            HeadError: if there is none of this name.
        """
        self._held(head_name)
        active = self._active_head
        if isinstance(active, tuple):
            active = tuple(name for name in active if name != head_name) or None
        self.active_head = None if head_name in _names(active) else active
        del self.heads[head_name]

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers; the configuration that is saved names the heads, so that they come back."""
        self._show_labels(None)  # no head's labels are the model's own
        self.config.prediction_heads = self.get_prediction_heads_config()
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            del self.config.prediction_heads
            self._show_labels(self._active_head)

    # Looking

    @property
    def head_types(self) -> tuple[str, ...]:
        """The types of head that can be added."""
        return registered_heads()

    def get_prediction_heads_config(self) -> dict[str, dict[str, Any]]:
        """Type and options of every head by name, ready for JSON."""
        return {name: head.to_dict() for name, head in self.heads.items()}

    def get_labels_dict(self, head_name: str | None = None) -> dict[int, str] | None:
        """Names of the classes of a head (by default the active one) by index; None if it has no classes.

        Raises:
            HeadError: if there is no such head, or none is named and not exactly one is active.
        """
        name = self._active_head if head_name is None else head_name
        if not isinstance(name, str):
            raise HeadError(f"name the head whose labels you want: {self._listed()}")
        return self._known(name).labels

    def get_labels(self, head_name: str | None = None) -> list[str] | None:
        """Names of the classes of a head (by default the active one); None if it has no classes.

        Raises:
            HeadError: if there is no such head, or none is named and not exactly one is active.
        """
        labels = self.get_labels_dict(head_name)
        return None if labels is None else list(labels.values())

    # Choosing

    @property
    def active_head(self) -> str | list[str] | Composition | None:
        """The head that ``forward`` runs, several, or None. Set it to a name, a list of names, or None.

        A ``BatchSplit``, ``Rows``, ``Parallel`` or ``MultiTask`` of names gives each head rows of its own.

        Raises:
            HeadError: on setting it to a name that no head has.
        """
        return list(self._active_head) if isinstance(self._active_head, tuple) else self._active_head

    @active_head.setter
    def active_head(self, value: str | Sequence[str] | Composition | None) -> None:
        chosen = value if value is None or isinstance(value, str | Composition) else tuple(value) or None
        for name in _names(chosen):
            self._known(name)
        self._active_head = chosen
        self._show_labels(chosen)

    def _context_head(self) -> str | Sequence[str] | Composition | None:
        """The head that surroundings of a call ask for, before ``active_head``; for a subclass to say."""
        return None

    def _rowwise(self, chosen: Any) -> Any:
        """What was chosen, as the base model's rows ask for it; for a subclass to say."""
        return chosen

    def _task_ids(self) -> Tensor | None:
        """The task of each row, where a call says so; for a subclass to say."""
        return None

    def _channels(self) -> int:
        """How many times the base model's output has the rows of the batch; for a subclass to say."""
        return 1

    def _run_base(self, inputs: dict[str, Any]) -> Any:
        """The base model's own forward."""
        return super().forward(**inputs)

    # Running

    def _forward_heads(self, *args: Any, head: Any = None, return_dict: bool | None = None, **kwargs: Any) -> Any:
        chosen = self._rowwise(head or self._context_head() or self._active_head)
        heads = [self._known(name) for name in _names(chosen)]
        given = dict(zip(self._base_arguments[: len(args)], args, strict=True)) | kwargs
        inputs, targets = self._split(given, heads)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        if not heads:
            return self._run_base(inputs | {"return_dict": as_dict})
        base_inputs = self._prepared(inputs, targets, heads)
        outputs = self._run_base(base_inputs | {"return_dict": True})
        answer = self._answer(chosen, HeadContext(self, outputs, inputs, base_inputs, targets))
        return answer if as_dict else answer.to_tuple()

    def forward_head(
        self,
        all_outputs: ModelOutput,
        head_name: Any = None,
        cls_output: Any = None,
        attention_mask: Tensor | None = None,
        return_dict: bool = False,
        context: Any = None,
        **kwargs: Any,
    ) -> Any:
        """What a head (by default the active one) answers to outputs of the base model that are there already.

        ``kwargs`` are labels, and inputs of the base model that a head reads. ``cls_output`` and ``context`` have no
        effect: each head takes what it needs from the outputs. Without any head, these are given back.

        Raises:
            HeadError: if there is no such head.
        """
        chosen = self._rowwise(head_name or self._context_head() or self._active_head)
        heads = [self._known(name) for name in _names(chosen)]
        if not heads:
            return all_outputs
        inputs, targets = self._split(kwargs | {"attention_mask": attention_mask}, heads)
        answer = self._answer(chosen, HeadContext(self, all_outputs, inputs, inputs, targets))
        return answer if return_dict else answer.to_tuple()

    def _answer(self, chosen: Any, context: HeadContext) -> ModelOutput:
        """That of one head, of several, or of those that have rows of their own."""
        if isinstance(chosen, Composition):
            return self._by_rows(chosen, context)
        answers = [self._known(name)(context) for name in _names(chosen)]
        return answers[0] if isinstance(chosen, str) else _together(answers)

    def _by_rows(self, heads: Composition, context: HeadContext) -> ModelOutput:
        """Every head's answer for the rows that are its own."""
        total, channels = context.hidden.shape[0], self._channels()
        found = assigned_rows(heads, total, self._task_ids(), channels)
        found = [(name, rows) for name, rows in found if len(rows)]
        whole = isinstance(heads, Parallel)
        if channels > 1 and not whole:
            context = for_channels(context, total // channels, channels)
        own = [(self._known(name), rows) for name, rows in found]
        answers = self._side_by_side.answers(own, context, total, channels if whole else 1)
        return replace(_together(answers), rows=tuple(rows for _, rows in found))

    def _split(self, given: dict[str, Any], heads: Sequence[Head | HeadBank]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments for the base model, and those for the heads."""
        wanted = {name for head in heads for name in head.arguments if name not in self._base_arguments}
        targets = {name: value for name, value in given.items() if name in wanted and value is not None}
        for name in TARGETS:
            if given.get(name) is not None and name not in wanted:
                taken = f"the active head takes {', '.join(sorted(wanted))}" if heads else "no head is active"
                raise HeadError(f"{name} was given, but {taken}. {self._listed()}")
        left_out = wanted.union(_ADDED).difference(self._base_arguments)
        return {name: value for name, value in given.items() if name not in left_out}, targets

    def _prepared(
        self, inputs: dict[str, Any], targets: dict[str, Any], heads: Sequence[Head | HeadBank]
    ) -> dict[str, Any]:
        """The inputs for the base model as the heads want them."""
        prepared = dict(inputs)
        for head in heads:
            prepared = head.prepare(self, prepared, targets)
        if self.config.is_encoder_decoder:
            prepared = with_decoder_inputs(self, prepared, prepared.get("input_ids"))
        learns = any(name in targets for name in TARGETS)
        if learns and "use_cache" in self._base_arguments and prepared.get("use_cache") is None:
            prepared["use_cache"] = False
        return prepared

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """As in transformers; the heads follow."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        every: list[Head | HeadBank] = [*self.heads.values(), *self.head_banks.values()]
        for head in every:
            head.resize_vocabulary(embeddings.weight.shape[0])
        return embeddings

    def _known(self, name: str) -> Head | HeadBank:
        return self.head_banks[name] if name in self.head_banks else self._held(name)

    def _held(self, name: str) -> Head:
        head = self.heads.get(name)
        if head is None:
            raise HeadError(f"there is no head {name!r}. {self._listed()}")
        return head

    def _listed(self) -> str:
        return f"Heads of this model: {', '.join(self.heads) or 'none yet'}."

    def _check_free(self, name: str, overwrite_ok: bool) -> None:
        check_name(name)
        if name in self.head_banks:
            raise AdapterExistsError(f"there is a bank of heads {name!r}: choose another name")
        if name in self.heads and not overwrite_ok:
            raise AdapterExistsError(f"there is a head {name!r} already; delete it, or pass overwrite_ok=True")

    def _show_labels(self, chosen: str | tuple[str, ...] | Composition | None) -> None:
        """Show the labels of a head in the configuration, where pipelines look for them; else the model's own."""
        id2label, label2id, problem_type = self._own_labels
        head = self._known(chosen) if isinstance(chosen, str) else None
        if head is not None and head.labels is not None:
            id2label = dict(head.labels)
            label2id = {label: index for index, label in id2label.items()}
            problem_type = head.problem_type
        self.config.id2label, self.config.label2id = id2label, label2id
        self.config.problem_type = problem_type


def _names(chosen: str | Sequence[str] | Composition | None) -> tuple[str, ...]:
    if chosen is None or isinstance(chosen, Composition):
        return () if chosen is None else chosen.names()
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def _together(answers: Sequence[ModelOutput]) -> MultiHeadOutput:
    losses = [answer["loss"] for answer in answers if answer.get("loss") is not None]
    return MultiHeadOutput(loss=sum(losses[1:], losses[0]) if losses else None, head_outputs=tuple(answers))
