"""A head that a checkpoint brings: what is left of a transformers class when its base model is taken out.

``BertForTokenClassification``, ``GPT2LMHeadModel`` and their like are a base model and a few modules after it. Here
the class itself is kept, and runs its own ``forward``; in place of its base model stands a stand-in that hands back
what the base model has answered already. So every such class of transformers is a head, with its own logits and loss.
"""

import copy
import inspect
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils import ModelOutput

from adapterhub.checkpoints import whole_copies
from adapterhub.engine.named import ADDED
from adapterhub.engine.reader import FIRST, pools_first
from adapterhub.engine.vocabulary import has_entries, note_size, with_entries
from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, Head, HeadConfig, HeadContext, register_head, text_config
from adapterhub.heads.multiple_choice import flatten_choices
from adapterhub.heads.vocabulary import with_decoder_inputs

# The call that is going on in this thread, for the stand-ins deep inside the class. (A context variable would be the
# natural choice, but torch.compile breaks the graph at one.)
_call = threading.local()

# What this package adds to a model, which is no part of its head.
_ADDED = ("engine", *ADDED)


@dataclass(frozen=True)
class StaticConfig(HeadConfig):
    """A class of transformers by name, its configuration where that differs from the defaults, its tied weights.

    ``tied`` maps the name of a parameter in that class to the one whose values it shares.
    """

    architecture: str
    settings: Mapping[str, Any]
    tied: Mapping[str, str]


class StandIn(nn.Module):
    """In place of a base model: answers a call with what the base model answered, and has its attributes.

    ``part`` is ``encoder`` or ``decoder`` where a class calls these two itself, as T5's do.
    """

    def __init__(self, part: str | None = None) -> None:
        super().__init__()
        self.part = part

    def forward(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """The outputs of the call that is going on."""
        outputs: ModelOutput = _call.context.outputs
        if self.part is None:
            return outputs
        if self.part == "encoder":
            return BaseModelOutput(
                last_hidden_state=outputs["encoder_last_hidden_state"],
                hidden_states=outputs.get("encoder_hidden_states"),
                attentions=outputs.get("encoder_attentions"),
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=outputs["last_hidden_state"],
            past_key_values=outputs.get("past_key_values"),
            hidden_states=outputs.get("decoder_hidden_states"),
            attentions=outputs.get("decoder_attentions"),
            cross_attentions=outputs.get("cross_attentions"),
        )

    def __getattr__(self, name: str) -> Any:
        context = getattr(_call, "context", None)
        if context is None or self.__dict__.get("part") is not None:
            return super().__getattr__(name)
        return getattr(context.base, name)


class TiedLinear(nn.Module):
    """A linear map that owns only some of ``weight`` and ``bias``; the rest is read, at each call, where it lives.

    ``tied`` maps a name to that place: a module (None for the base model of the call) and a path in it.
    """

    def __init__(self, linear: nn.Linear, tied: dict[str, tuple[nn.Module | None, str]]) -> None:
        super().__init__()
        self.tied = tied
        for name in ("weight", "bias"):
            if name not in tied:
                self.register_parameter(name, getattr(linear, name))

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("tied", ()):
            return super().__getattr__(name)
        owner, path = self.tied[name]
        return reduce(getattr, path.split("."), _call.context.base if owner is None else owner)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        owner, _ = self.tied.get("weight", (self, ""))
        read = _call.context.in_own_space(hidden) if owner is None else hidden
        return F.linear(read, self.weight, self.bias)


@register_head("static")
class StaticHead(Head):
    """The head of any class of transformers: takes the arguments and gives the outputs of that class."""

    config_class = StaticConfig
    config: StaticConfig

    def __init__(self, config: StaticConfig, base: BaseInfo, shell: PreTrainedModel | None = None) -> None:
        """A new head with random weights, or one around ``shell``, a model whose base is taken out already.

        Raises:
            HeadError: if transformers has no such class, or no base model can be told apart in it.
        """
        super().__init__(config, base)
        self.shell = _carve(_new_model(config)) if shell is None else shell
        parameters = inspect.signature(self.shell.forward).parameters
        self.arguments = tuple(name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD)
        self.takes_more = len(self.arguments) < len(parameters)

    @classmethod
    def from_model(cls, model: PreTrainedModel) -> Self:
        """The head of ``model``, as a copy; the model stays as it is.

        Raises:
            HeadError: if the model has no head, or no base model can be told apart in it.
        """
        shell = _carve(model)
        config = StaticConfig(type(model).__name__, settings_of(model.config), _tied_names(model))
        return cls(config, BaseInfo.of(base_of(model)), shell)

    @classmethod
    def of_class(cls, architecture: str, settings: Mapping[str, Any], base: BaseInfo) -> Self:
        """A new head of a class of transformers, for a configuration of it.

        Raises:
            HeadError: if transformers has no such class, or no base model can be told apart in it.
        """
        kind = _model_class(architecture)
        with torch.device("meta"):
            model: PreTrainedModel = kind(_configuration(kind.config_class, settings))
        model.tie_weights()
        return cls(StaticConfig(architecture, settings, _tied_names(model)), base)

    def prepare(self, base: PreTrainedModel, inputs: dict[str, Any], targets: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as the class prepares them for its base model."""
        if self.config.architecture.endswith("ForMultipleChoice"):
            return flatten_choices(inputs)
        if self.shell.config.is_encoder_decoder and self.shell.can_generate():
            return with_decoder_inputs(base, inputs, targets.get("labels"))
        return inputs

    def forward(self, context: HeadContext) -> ModelOutput:
        """What the class answers to the inputs and targets of the caller."""
        given = {**context.inputs, **context.targets}
        if not self.takes_more:
            given = {name: value for name, value in given.items() if name in self.arguments}
        outer = getattr(_call, "context", None)
        _call.context = _with_first(context) if pools_first(self.shell) else context
        try:
            return self.shell(**{**given, "return_dict": True})
        finally:
            _call.context = outer

    @property
    def labels(self) -> dict[int, str] | None:
        """Names of the classes, if the class of transformers is a classifier."""
        return dict(self.shell.config.id2label) if "Classification" in self.config.architecture else None

    @property
    def problem_type(self) -> str | None:
        """As in the configuration of the class."""
        return self.shell.config.problem_type

    @property
    def scores_tokens(self) -> bool:
        """Whether the class is no classifier."""
        return self.labels is None

    def resize_vocabulary(self, size: int) -> None:
        """New tokens get the mean of what the head has for those there are, or a bias of 0."""
        config = text_config(self.shell.config)
        if self.scores_tokens and size != config.vocab_size:
            for module in self.shell.modules():
                _resize(module, config.vocab_size, size)
        config.vocab_size = size


def _with_first(context: HeadContext) -> HeadContext:
    """The first position that the base model read in the place of the text's first token, where they differ."""
    if FIRST not in context.outputs:
        return context
    outputs = copy.copy(context.outputs)
    outputs["last_hidden_state"] = torch.cat((context.first.unsqueeze(1), context.hidden[:, 1:]), dim=1)
    return replace(context, outputs=outputs)


def _resize(module: nn.Module, old_size: int, size: int) -> None:
    """Resize what ``module`` holds for a vocabulary V: tensors of shape ``[V]``, ``[V, *]``, ``[1, V]``."""
    for store in (module._parameters, module._buffers):
        for name, old in store.items():
            if old is None or not has_entries(old, old_size):
                continue
            rows = old.data.reshape(old_size, -1)
            filling = rows.mean(0, keepdim=True) if old.shape[0] == old_size and old.dim() == 2 else rows[:1] * 0
            rows = torch.cat((rows[:size], filling.expand(max(size - old_size, 0), -1)))
            new = rows.reshape(with_entries(old, old_size, size))
            made: Any = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            store[name] = made
    note_size(module, old_size, size)


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """The base model inside ``model``: its own modules, not a copy.

    Raises:
        HeadError: if the model has no head, or no base model can be told apart in it.
    """
    parts = _base_parts(model)
    if "" in parts:
        return parts[""]
    base = _empty_base(_base_class(model), model)
    for name, module in parts.items():
        setattr(base, name, module)
    return base.train(model.training)


def _base_parts(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The base model under an empty name; or the modules that make it up, by name, where they stand loose."""
    base_class = _base_class(model)
    if is_base_model(model):
        raise HeadError(f"{type(model).__name__} has no head")
    inner = getattr(model, model.base_model_prefix or "-", None)
    models = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if not isinstance(inner, PreTrainedModel) and len(models) == 1:
        inner = models[0]
    if isinstance(inner, PreTrainedModel):
        wraps = type(inner).__name__.endswith("Wrapper")  # a decoder alone, as in BartForCausalLM
        return {"": next(one for one in inner.children() if isinstance(one, PreTrainedModel)) if wraps else inner}
    if base_class is not None:
        names = [name for name, _ in _empty_base(base_class, model).named_children()]
        if all(hasattr(model, name) for name in names):
            return {name: getattr(model, name) for name in names}
    raise HeadError(f"no base model can be told apart in {type(model).__name__}, so its head cannot be taken off")


def _base_class(model: PreTrainedModel) -> type[PreTrainedModel] | None:
    """The class that transformers has for the base model of this kind of model, if any."""
    known = MODEL_MAPPING.get(type(model.config), None)
    return known[0] if isinstance(known, tuple) else known


def is_base_model(model: PreTrainedModel) -> bool:
    """Whether a model is what transformers has for the base of its kind, with no head, whatever it calls its parts."""
    base_class = _base_class(model)
    return base_class is not None and isinstance(model, base_class)


def _empty_base(base_class: Any, model: PreTrainedModel) -> PreTrainedModel:
    """A base model with the configuration of ``model`` and no values."""
    with torch.device("meta"):
        base: PreTrainedModel = base_class(copy.deepcopy(model.config))
    base.config = model.config
    return base


def _carve(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of ``model`` with stand-ins for its base model, and no parameter twice.

    Raises:
        HeadError: if something else than a linear map shares a parameter.
    """
    # A deep copy takes what the memo already holds for an object instead of copying it.
    memo: dict[int, Any] = {}
    homes: dict[int, str] = {}
    for part, module in _base_parts(model).items():
        memo[id(module)] = StandIn(part if part in ("encoder", "decoder") else None)
        for path, parameter in module.named_parameters(prefix=part, remove_duplicate=False):
            if id(parameter) not in memo:
                memo[id(parameter)] = nn.Parameter(torch.empty(0), requires_grad=False)
                homes[id(memo[id(parameter)])] = path
    shell = _copy(model, memo)
    shell._tied_weights_keys = shell.all_tied_weights_keys = {}

    owners: dict[int, tuple[nn.Module | None, str]] = {marker: (None, path) for marker, path in homes.items()}
    for path, module in list(shell.named_modules()):
        own = {name: one for name, one in module._parameters.items() if one is not None}
        tied = {name: owners[id(one)] for name, one in own.items() if id(one) in owners}
        if tied:
            if type(module) is not nn.Linear:
                where = f"{', '.join(tied)} of {path or 'itself'}"
                raise HeadError(f"{type(model).__name__} shares {where}, which is no linear map")
            module = TiedLinear(module, tied)
            shell.set_submodule(path, module)
        owners |= {id(one): (module, name) for name, one in own.items() if name not in tied}
    return shell


def _copy(model: PreTrainedModel, memo: dict[int, Any]) -> PreTrainedModel:
    """A deep copy as an instance of the class in transformers, without hooks and what this package added to it."""
    native: Any = [one for one in type(model).__mro__ if one.__name__ == type(model).__name__][-1]
    for module in model.modules():  # these lead to all kinds of objects, to some that cannot be copied
        memo |= {id(value): type(value)() for name, value in vars(module).items() if _is_bookkeeping(name)}
    memo |= whole_copies(parameter for parameter in model.parameters() if id(parameter) not in memo)
    memo[id(model)] = shell = native.__new__(native)
    state = {name: value for name, value in vars(model).items() if name not in _ADDED}
    state["_modules"] = {name: module for name, module in model._modules.items() if name not in _ADDED}
    shell.__dict__.update(copy.deepcopy(state, memo))
    return shell


def _is_bookkeeping(name: str) -> bool:
    """Whether an attribute of a module holds its hooks, or what FSDP2 notes of it."""
    return name.endswith("_hooks") or name.startswith("__composable_api")


def _tied_names(model: PreTrainedModel) -> dict[str, str]:
    """For every name of a parameter that has another name before it: that one."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first[id(one)] for name, one in named if first.setdefault(id(one), name) != name}


def _new_model(config: StaticConfig) -> PreTrainedModel:
    """The class of ``config`` with a newly initialised head, around a base model without values.

    Raises:
        HeadError: if transformers has no such class.
    """
    kind = _model_class(config.architecture)
    with torch.device("meta"):
        model: PreTrainedModel = kind(_configuration(kind.config_class, config.settings))
    for path, one in list(model.named_parameters(remove_duplicate=False)):
        source = config.tied.get(path)
        parent, _, name = path.rpartition(".")
        value = nn.Parameter(torch.empty_like(one)) if source is None else model.get_parameter(source)
        setattr(model.get_submodule(parent), name, value)
    inside = {module for part in _base_parts(model).values() for module in part.modules()}
    of_base = {parameter for module in inside for parameter in module.parameters()}
    new: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        if module not in inside:
            _give_values(module, of_base, new)
    with torch.no_grad():
        for module in model.modules():
            if module not in inside:
                model._init_weights(module)
    return model


def settings_of(config: PretrainedConfig) -> dict[str, Any]:
    """A configuration as the JSON of where it differs from the defaults, without what it says of files."""
    settings: dict[str, Any] = json.loads(config.to_json_string())
    for name in ("architectures", "_name_or_path", "transformers_version", "prediction_heads"):
        settings.pop(name, None)
    return settings


def _model_class(architecture: str) -> Any:
    made = getattr(transformers, architecture, None)
    if not (isinstance(made, type) and issubclass(made, PreTrainedModel)):
        raise HeadError(f"transformers {transformers.__version__} has no model class {architecture!r}")
    return made


def _configuration(config_class: Any, settings: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration that ``settings`` were the JSON of (in which an infinity is a dictionary)."""
    made: PretrainedConfig = config_class.from_dict(config_class._decode_special_floats(dict(settings)))
    # A head runs neither; and a name of somebody's kernels would have transformers fetch and run them.
    made._attn_implementation = made._experts_implementation = "eager"
    return made


def _give_values(module: nn.Module, leave: set[nn.Parameter], new: dict[nn.Parameter, nn.Parameter]) -> None:
    """Put zeros in place of the parameters and buffers of ``module``, the same ones for the same ones."""
    device = torch.get_default_device()
    for name, one in module._parameters.items():
        if one is not None and one not in leave:
            values = torch.zeros_like(one, device=device)
            module._parameters[name] = new.setdefault(one, nn.Parameter(values, one.requires_grad))
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = torch.zeros_like(buffer, device=device)
