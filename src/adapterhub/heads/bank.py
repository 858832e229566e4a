"""Banks of heads: many heads of one kind in stacked tensors, of which each row of a batch uses one."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from adapterhub.engine.slotted import Slotted
from adapterhub.errors import HeadError
from adapterhub.heads.base import FeatureHead, Head, HeadContext
from adapterhub.heads.routing import part_of
from adapterhub.methods.stacked import Stacked, Unit

SLOTS = "head_slots"


class HeadBank(Slotted):
    """Room for ``capacity`` heads that differ in their values and the names of their labels alone.

    It stands among the heads of a model under its name (``model.head_banks``), and answers as the head in the slot
    ``active`` does; or, in a call with ``head_slots=`` ``[batch]``, for each row as the head in that slot. Calls for
    several heads take no labels. It is no part of the model's state dict.
    """

    what = "head"

    def __init__(self, name: str, head: Head, capacity: int) -> None:
        """Room for heads like ``head``, whose values do not matter, on its device and in its data type.

        Raises:
            ConfigError: if there is to be no slot.
        """
        super().__init__(name, head, capacity)
        self._like = head.eval().requires_grad_(False)
        self._run = Stacked(Unit(head))
        self._layers = Stacked(Unit(head.layers)) if isinstance(head, FeatureHead) else None
        self.active: int | None = None
        self._labels: Mapping[int, str] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The forward arguments that are meant for it."""
        return (*self._like.arguments, SLOTS)

    @property
    def labels(self) -> dict[int, str] | None:
        """Names of the classes of the active head by index, or None where there are none."""
        return self._like.labels if self._labels is None else dict(self._labels)

    @property
    def problem_type(self) -> str | None:
        """What the logits mean, in the words of transformers' configurations, or None."""
        return self._like.problem_type

    def activate(self, slot: int, labels: Mapping[int, str] | None = None) -> None:
        """Answer as the head in a slot does, whose classes are called ``labels``.

        Raises:
            CompositionError: if there is none.
        """
        self._check_filled((slot,))
        self.active, self._labels = slot, labels

    def clear(self, slot: int) -> None:
        super().clear(slot)
        self.active = None if self.active == slot else self.active

    def prepare(self, base: PreTrainedModel, inputs: dict[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs for the base model, as the heads want them."""
        return self._like.prepare(base, inputs, targets)

    def resize_vocabulary(self, size: int) -> None:
        """Follow the base model, which is refused while heads have something for each token.

        Raises:
            HeadError: if they do.
        """
        if self._like.scores_tokens:
            raise HeadError(f"the heads in {self.name!r} are for the vocabulary as it was: take them out first")

    def __call__(self, context: HeadContext) -> ModelOutput:
        """What the heads answer.

        Raises:
            HeadError: if no head is active and none is named, or there are labels for several.
        """
        targets = dict(context.targets)
        given = targets.pop(SLOTS, None)
        context = replace(context, targets=targets)
        if given is None and self.active is None:
            raise HeadError(f"no head of {self.name!r} is active: name one for each row by {SLOTS}=")
        slots = [self.active or 0] if given is None else [int(slot) for slot in given]
        used = list(dict.fromkeys(slots))
        if len(used) == 1:
            return self._answer(context, used[0])
        if targets:
            raise HeadError(f"{', '.join(targets)} given for rows of several heads, whose losses are apart")
        self._check_filled(used)
        if self._layers is not None and isinstance(self._like, FeatureHead):
            return self._as_one(self._like, self._layers, context, slots)
        return self._one_by_one(context, used, slots)

    def _answer(self, context: HeadContext, slot: int) -> ModelOutput:
        """What the head in a slot answers."""
        own = self.tensors(slot)
        tensors = [own[path.removeprefix("part.")] for path in self._run.names]
        answer: ModelOutput = self._run.run(tensors, "forward", (context,), stacked=False)
        return answer

    def _as_one(self, like: FeatureHead, layers: Stacked, context: HeadContext, slots: Sequence[int]) -> ModelOutput:
        """What heads of linear maps answer, each for a row, by batched matrix products."""
        numbers = torch.tensor(slots, device=self.device)
        tensors = [self.stacked(f"layers.{path.removeprefix('part.')}")[numbers] for path in layers.names]
        features = like.features(context).unflatten(0, (len(slots), -1)).to(tensors[0].dtype)
        return like.answer(context, layers.run(tensors, "forward", (features,)).flatten(0, 1))

    def _one_by_one(self, context: HeadContext, used: Sequence[int], slots: Sequence[int]) -> ModelOutput:
        """What heads answer that cannot run as one, each for its own rows, in the order of the rows."""
        rows = [torch.tensor([row for row, slot in enumerate(slots) if slot == one]) for one in used]
        answers = [
            self._answer(part_of(context, own, len(slots), whole_batch=False), slot)
            for slot, own in zip(used, rows, strict=True)
        ]
        order = torch.cat(rows).argsort()
        made = copy(answers[0])
        for key in made:
            made[key] = _in_order([answer[key] for answer in answers], [len(own) for own in rows], order)
        return made


def _in_order(values: Sequence[Any], sizes: Sequence[int], order: Tensor) -> Any:
    """What is there for groups of rows as one, for all rows in order; of what is for no rows, the first."""
    if isinstance(values[0], Tensor):
        apart = all(value.dim() and len(value) == size for value, size in zip(values, sizes, strict=True))
        return torch.cat(list(values))[order.to(values[0].device)] if apart else values[0]
    if type(values[0]) is tuple:
        return tuple(_in_order(items, sizes, order) for items in zip(*values, strict=True))
    return values[0]
