"""Heads of a person's own, written as for ``adapters``: a sequence of modules over the outputs of the base model."""

import inspect
from collections.abc import Mapping
from typing import Any, Self, cast

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import Activation, BaseInfo, Head, HeadContext, Mlp
from adapterhub.heads.pooling import pool

_GIVEN = ("outputs", "cls_output", "attention_mask", "return_dict", "context")


class PredictionHead(nn.Sequential, Head):
    """A head with the methods that heads of ``adapters`` have; ``register_custom_head`` makes a subclass known.

    A subclass has ``__init__(self, model, head_name, **options)``, which calls this one with the name, sets
    ``self.config`` to a dictionary (JSON-ready; it is what is saved, and comes back as ``options``) and calls
    ``self.build(model)``, or adds modules of its own. Its ``forward(self, outputs, cls_output=None,
    attention_mask=None, return_dict=False, **kwargs)`` gets what the base model answered, one vector for each input
    ``[batch, hidden]``, and the labels by name; it answers with a ``ModelOutput``. ``get_label_names`` says which
    arguments of the model are its labels; other arguments of ``forward`` that have a name of their own come too.
    """

    def __init__(self, name: str) -> None:
        nn.Module.__init__(self)
        self.config: dict[str, Any] = {}
        self.name = name

    @classmethod
    def from_options(cls, options: Mapping[str, Any], base: BaseInfo) -> Self:
        """A new head for a base model.

        Raises:
            HeadError: if the subclass cannot be made of these options.
        """
        kind: Any = cls
        try:
            return cast(Self, kind(base.model, cls.head_type, **options))
        except (TypeError, KeyError) as error:
            raise HeadError(f"{cls.__name__} cannot be made of {dict(options)}: {error!r}") from error

    def build(self, model: PreTrainedModel) -> None:
        """Give the head ``layers`` linear maps, by its ``config``, with ``activation_function`` between.

        The last one gives ``num_labels`` numbers; one, where ``num_choices`` are to be compared; else a vector as wide
        as the model's, after the activation function. ``dropout_prob`` is by default the base model's.
        """
        base, options = BaseInfo.of(model), self.config
        labels = options.get("num_labels", 1 if "num_choices" in options else None)
        non_linearity = options.get("activation_function")
        layers = Mlp(
            base,
            labels or base.width,
            options.get("layers", 1),
            non_linearity,
            options.get("dropout_prob"),
            options.get("bias", True),
        )
        for module in (*layers, *([Activation(non_linearity)] if labels is None and non_linearity else ())):
            self.append(module)
        self.train(model.training)

    def get_label_names(self) -> list[str]:
        """The arguments of the model that are labels; by default ``["labels"]``."""
        return ["labels"]

    @property
    def arguments(self) -> tuple[str, ...]:  # type: ignore[override]
        """The arguments of the model that are meant for the head."""
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        parameters = inspect.signature(self.forward).parameters.values()
        extra = [one.name for one in parameters if one.kind not in kinds and one.name not in (*_GIVEN, "input")]
        return tuple(dict.fromkeys([*self.get_label_names(), *extra]))

    def __call__(self, given: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer a call of the model; or run the modules in order over ``given``, a tensor, as a sequence does."""
        if not isinstance(given, HeadContext):
            return super().__call__(given, *args, **kwargs)
        info = BaseInfo.of(given.base)
        vector = pool(given, info.pooling, bool(self.config.get("use_pooler", info.use_pooler)))
        mask = given.base_inputs.get("attention_mask")
        answer = super().__call__(
            given.outputs, cls_output=vector, attention_mask=mask, return_dict=True, **given.targets
        )
        if not isinstance(answer, ModelOutput):
            raise HeadError(
                f"{type(self).__name__} answered with a {type(answer).__name__}: with return_dict=True it is to give "
                "a ModelOutput"
            )
        return answer

    @property
    def labels(self) -> dict[int, str] | None:
        """Names of the classes, where ``config`` has ``label2id`` or ``id2label``."""
        if given := self.config.get("id2label"):
            return {int(index): str(label) for index, label in given.items()}
        given = self.config.get("label2id")
        return {index: label for label, index in given.items()} if given else None

    def to_dict(self) -> dict[str, Any]:
        """Type and configuration, ready for JSON."""
        return {**self.config, "head_type": self.head_type}
