"""What every prediction head has in common: its configuration, what it is told about a model, and the registry.

A head is a module over the output of a base model and holds no part of that model: at each call it gets a
``HeadContext`` with the live base model, what the caller passed in, and what the base model answered.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from adapterhub.engine.reader import FIRST
from adapterhub.errors import HeadError
from adapterhub.methods.activations import activation
from adapterhub.methods.stacked import StackableLinear
from adapterhub.sites import is_decoder

Pooling = Literal["first", "last", "eos", "mean", "pair"]
Out = TypeVar("Out", bound=ModelOutput)
H = TypeVar("H", bound="type[Head]")

# The order in which configurations are asked for the dropout before a classifier.
_DROPOUTS = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "hidden_dropout_prob",
    "dropout_rate",
    "hidden_dropout",
    "resid_pdrop",
    "dropout",
)


@dataclass(frozen=True)
class BaseInfo:
    """What a head has to know about a base model to be built.

    ``pooling`` says what stands for a whole input: its ``first`` token, its ``last`` one that is not padding, the
    last ``eos`` of the decoder, the ``mean`` over positions, or the ``pair`` of embeddings of a two-tower model;
    ``use_pooler``, that the model's own pooler does, unless a head says otherwise. A language-modelling head over the
    input embeddings multiplies hidden states with ``output_scale``, and keeps its logits within ``output_cap``.
    ``model`` is the base model itself, for heads that are built by its configuration.
    """

    width: int
    embedding_width: int | None
    vocab_size: int | None
    pooling: Pooling
    is_encoder_decoder: bool
    initializer_range: float
    layer_norm_eps: float
    dropout: float
    use_pooler: bool
    output_scale: float
    output_cap: float | None
    model: PreTrainedModel | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Read everything from a model and its configuration.

        Raises:
            HeadError: if the width of the model's output cannot be told from its configuration.
        """
        config = text_config(model.config)
        table = getattr(word_embeddings(model), "weight", None)
        # What DeepSpeed took apart keeps its shape under another name.
        vocabulary, width = (None, None) if table is None else getattr(table, "ds_shape", table.shape)
        pooling = _pooling(model)

        def number(default: float, *names: str) -> float:
            found = (getattr(config, name, None) for name in names)
            return float(next((value for value in found if isinstance(value, int | float)), default))

        # Of the T5 kind, some say in their configuration that they scale, some only in their modelling code.
        scaled_by_code = config.model_type in ("umt5", "switch_transformers") and config.tie_word_embeddings
        scaled = getattr(config, "scale_decoder_outputs", scaled_by_code)
        return cls(
            width=2 * model.config.projection_dim if pooling == "pair" else _width(model),
            embedding_width=width,
            vocab_size=vocabulary,
            pooling=pooling,
            is_encoder_decoder=bool(model.config.is_encoder_decoder),
            initializer_range=number(0.02, "initializer_range", "init_std"),
            layer_norm_eps=number(1e-5, "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps"),
            dropout=number(0.0, *_DROPOUTS),
            use_pooler=config.model_type == "beit",
            output_scale=config.d_model**-0.5 if scaled else 1.0,
            output_cap=getattr(config, "final_logit_softcapping", None),
            model=model,
        )


def word_embeddings(model: PreTrainedModel) -> nn.Embedding | None:
    """The table that maps tokens to vectors, or None in a model that reads no tokens."""
    try:
        found = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    return found if isinstance(found, nn.Embedding) else None


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a configuration that is about the text a model writes: one nested in it, or all of it.

    (``get_text_config(decoder=True)`` would copy and rename parts of an encoder-decoder's configuration.)
    """
    nested = (getattr(config, name, None) for name in ("decoder", "decoder_config", "generator", "text_config"))
    return next((one for one in nested if isinstance(one, PretrainedConfig)), config)


def _width(model: PreTrainedModel) -> int:
    config = text_config(model.config)
    for name in ("word_embed_proj_dim", "hidden_size", "hidden_sizes", "d_model", "embed_dim"):
        if value := getattr(config, name, None):
            return int(value if isinstance(value, int) else value[-1])
    raise HeadError(f"{type(config).__name__} does not say how wide the output of {type(model).__name__} is")


def _pooling(model: PreTrainedModel) -> Pooling:
    config = model.config
    if config.is_encoder_decoder:
        return "eos"
    if all(hasattr(config, name) for name in ("text_config", "vision_config", "projection_dim")):
        return "pair"
    if model.main_input_name != "input_ids":
        own_token = ("cls_token", "class_embedding", "class_token")
        return "first" if any(name.endswith(own_token) for name, _ in model.named_parameters()) else "mean"
    text = text_config(config)
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        return "mean"
    return "last" if is_decoder(text) else "first"


@dataclass(frozen=True)
class HeadContext:
    """One call of a model with heads.

    ``inputs`` are the forward arguments by name as the caller gave them, ``base_inputs`` as the base model
    got them (they differ where a head prepares them), ``targets`` those that are meant for the head
    (``labels``, ...) and ``outputs`` what the base model answered. ``rows`` are set where a head answers for some rows
    alone, out of ``total``.
    """

    base: PreTrainedModel
    outputs: ModelOutput
    inputs: Mapping[str, Any]
    base_inputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    rows: Tensor | None = None
    total: int = 0

    def in_own_space(self, hidden: Tensor) -> Tensor:
        """``hidden`` ``[batch, seq, width]`` as the base model's embeddings know it, without invertible adapters."""
        engine = getattr(self.base, "engine", None)
        return hidden if engine is None else cast(Tensor, engine.invert(hidden, self.rows, self.total))

    @property
    def hidden(self) -> Tensor:
        """The base model's output for every position: ``[batch, seq, hidden]``."""
        hidden = self.outputs.get("last_hidden_state")
        if hidden is None:
            raise HeadError(f"{type(self.base).__name__} has no output for every position, which this head needs")
        return hidden

    @property
    def first(self) -> Tensor:
        """The base model's output for the first position that it read, be it a prompt's: ``[batch, hidden]``."""
        found = self.outputs.get(FIRST)
        return self.hidden[:, 0] if found is None else found

    @property
    def labels(self) -> Tensor | None:
        """The caller's ``labels``, or None."""
        return self.targets.get("labels")

    def answer(self, output: type[Out], **values: Any) -> Out:
        """An output of the given class: ``values``, and the base model's for all else it has a place for."""
        free = [name for name in output.__dataclass_fields__ if name in self.outputs and name not in values]
        return output(**values, **{name: self.outputs[name] for name in free})


@dataclass(frozen=True)
class HeadConfig:
    """Configuration of a head; immutable, comparable and complete. This one is of a head without options."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration with the given fields.

        Raises:
            HeadError: for an unknown field, naming the ones there are, or a value that does not fit.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            names = ", ".join(known) or "none"
            raise HeadError(f"{cls.__name__} has no option {', '.join(unknown)}. Its options: {names}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise HeadError(f"{cls.__name__} cannot be made of {dict(values)}: {error}") from error


@dataclass(frozen=True)
class LabelledConfig(HeadConfig):
    """Configuration of a head with classes: their number, and their names where they have any.

    ``num_labels`` is by default the number of names, or 2.

    Raises:
        HeadError: if number and names disagree.
    """

    num_labels: int | None = None
    id2label: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        count = len(self.id2label or "01") if self.num_labels is None else self.num_labels
        if count < 1:
            raise HeadError(f"a head has at least one label, got num_labels={count}")
        object.__setattr__(self, "num_labels", count)
        if self.id2label is not None:
            object.__setattr__(self, "id2label", class_names(self.id2label, count))

    @property
    def labels(self) -> dict[int, str]:
        """Names of all classes; ``LABEL_0``, ``LABEL_1``, ... where none were given."""
        return dict(self.id2label or {index: f"LABEL_{index}" for index in range(self.count)})

    @property
    def count(self) -> int:
        """Number of classes."""
        return self.num_labels or 0


def class_names(id2label: Mapping[int, str], count: int) -> dict[int, str]:
    """``id2label`` in order, its keys as numbers (JSON makes them strings).

    Raises:
        HeadError: if it does not name the classes 0 to ``count`` - 1.
    """
    names = {int(index): str(label) for index, label in id2label.items()}
    if sorted(names) != list(range(count)):
        raise HeadError(f"there are {count} classes, 0 to {count - 1}, but id2label names {names}")
    return dict(sorted(names.items()))


class Head(nn.Module, ABC):
    """A prediction head. A person's own one is a subclass that is passed to ``register_head``.

    ``arguments`` names the forward arguments that are meant for the head and not for the base model.
    """

    head_type: ClassVar[str]
    name: str = "default"  # in the model that holds it
    config_class: ClassVar[type[HeadConfig]] = HeadConfig
    # A head that casts its input itself is kept in float32 over a base model in half precision.
    full_precision: ClassVar[bool] = False
    arguments: tuple[str, ...] = ("labels",)

    def __init__(self, config: HeadConfig, base: BaseInfo) -> None:
        super().__init__()
        self.config: Any = config

    @classmethod
    def of(cls, model: PreTrainedModel, head_name: str, **options: Any) -> Self:
        """A new head for a model, to be added by ``model.add_prediction_head``; ``options`` as of its configuration.

        Raises:
            HeadError: for an unknown option, or one that does not fit the model.
        """
        made = cls.from_options(options, BaseInfo.of(model))
        made.name = head_name
        return made

    @classmethod
    def from_options(cls, options: Mapping[str, Any], base: BaseInfo) -> Self:
        """A new head with the given options.

        Raises:
            HeadError: for an unknown option.
        """
        return cls(cls.config_class.from_dict(options), base)

    @abstractmethod
    def forward(self, context: HeadContext) -> ModelOutput:
        """What the model answers; with a ``loss`` if the context has targets."""

    def prepare(self, base: PreTrainedModel, inputs: dict[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs for the base model, by default those that the caller gave."""
        return inputs

    def resize_vocabulary(self, size: int) -> None:
        """Follow the base model, whose vocabulary has ``size`` entries from now on; by default nothing."""

    @property
    def scores_tokens(self) -> bool:
        """Whether it gives a score for every token, and so may hold something for each of them; by default not."""
        return False

    @property
    def labels(self) -> dict[int, str] | None:
        """Names of the classes by index, or None for a head that has no classes."""
        return getattr(self.config, "labels", None)

    @property
    def problem_type(self) -> str | None:
        """What the logits mean, in the words of transformers' configurations, or None."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Type and configuration, ready for JSON; ``build_head`` is the way back."""
        return {"head_type": self.head_type, **self.config.to_dict()}


_HEADS: dict[str, type[Head]] = {}


def register_head(head_type: str | H, head_class: H | None = None) -> Any:
    """Make a head known by its type, so that models can add and load it.

    Use it as ``register_head("name", MyHead)``, or as a decorator ``@register_head("name")`` or
    ``@register_head`` (the class then has a ``head_type`` of its own). Returns the class.

    Raises:
        HeadError: if the class is no ``Head``, or the type is taken by another class.
    """
    if isinstance(head_type, type):
        return register_head(getattr(head_type, "head_type", head_type.__name__), head_type)
    if head_class is None:
        return lambda decorated: register_head(head_type, decorated)
    if not (isinstance(head_class, type) and issubclass(head_class, Head)):
        raise HeadError(f"{head_class!r} cannot be a head: it is no subclass of adapterhub.heads.Head")
    taken = _HEADS.get(head_type)
    if taken is not None and taken.__qualname__ != head_class.__qualname__:
        raise HeadError(f"the head type {head_type!r} is taken by {taken.__module__}.{taken.__qualname__}")
    head_class.head_type = head_type
    _HEADS[head_type] = head_class
    return head_class


def head_class(head_type: str) -> type[Head]:
    """The class registered for a type.

    Raises:
        HeadError: for an unknown type, naming the ones there are.
    """
    if head_type not in _HEADS:
        raise HeadError(
            f"unknown head type {head_type!r}. Known: {', '.join(sorted(_HEADS))}. "
            "A head of your own has to be passed to adapterhub.heads.register_head first."
        )
    return _HEADS[head_type]


def registered_heads() -> tuple[str, ...]:
    """All known head types."""
    return tuple(sorted(_HEADS))


def build_head(values: Mapping[str, Any], base: BaseInfo) -> Head:
    """A new head from what ``Head.to_dict`` gave.

    Raises:
        HeadError: for an unknown type or option.
    """
    options = dict(values)
    return head_class(options.pop("head_type", "?")).from_options(options, base)


class FeatureHead(Head):
    """A head of linear maps over features that it reads of the base model's output.

    Several of one shape, each with rows of its own, are computed as one: see ``adapterhub.heads.together``.
    """

    layers: "Mlp"

    @abstractmethod
    def features(self, context: HeadContext) -> Tensor:
        """What ``layers`` read, ``[batch, ..., hidden]``, each row of that row of the output alone."""

    @abstractmethod
    def answer(self, context: HeadContext, scores: Tensor) -> ModelOutput:
        """What the model answers, out of what ``layers`` gave; with a ``loss`` if the context has targets."""

    @property
    def reading(self) -> tuple[Any, ...]:
        """What the features depend on beside the context."""
        return ()

    def forward(self, context: HeadContext) -> ModelOutput:
        return self.answer(context, self.layers(self.features(context)))


class Mlp(nn.Sequential):
    """``layers`` linear maps ``width -> ... -> out``, dropout before each, ``non_linearity`` between."""

    def __init__(
        self, base: BaseInfo, out: int, layers: int, non_linearity: str | None, dropout: float | None, bias: bool = True
    ) -> None:
        check_layers(layers)
        parts: list[nn.Module] = []
        for last in [False] * (layers - 1) + [True]:
            parts.append(nn.Dropout(base.dropout if dropout is None else dropout))
            parts.append(linear(base, base.width, out if last else base.width, bias=bias if last else True))
            if non_linearity and not last:
                parts.append(Activation(non_linearity))
        super().__init__(*parts)

    def takes_stacks(self) -> bool:
        """Whether it runs with stacked parameters as it is (``adapterhub.methods.stacked``)."""
        return True

    def forward(self, features: Tensor) -> Tensor:
        # A head keeps its own precision over a base model of another one.
        first: Any = self[1]
        return super().forward(features.to(first.weight.dtype))


def check_layers(count: int) -> None:
    """Pass a number of layers that a head can have.

    Raises:
        HeadError: for anything but a whole number of at least one.
    """
    if not isinstance(count, int) or count < 1:
        raise HeadError(f"a head needs at least one layer, got layers={count!r}")


def linear(base: BaseInfo, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map, initialised as the base model initialises its own."""
    made = StackableLinear(inputs, outputs, bias=bias)
    nn.init.normal_(made.weight, std=base.initializer_range)
    if bias:
        nn.init.zeros_(made.bias)
    return made


class Activation(nn.Module):
    """An activation function, by the names that adapters know it by too."""

    def __init__(self, name: str) -> None:
        activation(name)  # an unknown name is an error here
        super().__init__()
        self.name = name

    def forward(self, features: Tensor) -> Tensor:
        """Of the shape of ``features``."""
        return activation(self.name)(features)
