"""What the example scripts of ``adapters`` share: arguments of their command line, and a model made ready by them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapterhub.composition import Stack
from adapterhub.errors import TrainingError
from adapterhub.methods import DEFAULT_CONFIG, load_config
from adapterhub.model import AdapterMixin


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class AdapterArguments:
    """Arguments about adapters, for ``transformers.HfArgumentParser``."""

    train_adapter: bool = _option(False, "Train an adapter, and leave the rest of the model as it is.")
    load_adapter: str | None = _option("", "The folder of an adapter to go on with.")
    adapter_config: str | None = _option(DEFAULT_CONFIG, "The configuration of a new adapter: a name, or a JSON file.")
    load_lang_adapter: str | None = _option(None, "The folder of an adapter for the language, to be stacked below.")
    lang_adapter_config: str | None = _option(None, "Its configuration, which its folder has as well.")


def setup_adapter_training(
    model: AdapterMixin,
    adapter_args: AdapterArguments,
    adapter_name: str,
    adapter_config_kwargs: Mapping[str, Any] | None = None,
    adapter_load_kwargs: Mapping[str, Any] | None = None,
) -> tuple[str | None, str | None]:
    """Add or load the adapters that the arguments ask for, and make ``adapter_name`` the one that trains.

    ``adapter_config_kwargs`` change the configuration of a new adapter, ``adapter_load_kwargs`` are for
    ``load_adapter``. Returns the name of the adapter, and that of the one for the language that is stacked below it, or
    None; None twice where no adapter is to be trained.

    Raises:
        TrainingError: if an adapter is to be loaded, and none to be trained.
    """
    if not adapter_args.train_adapter:
        if adapter_args.load_adapter or adapter_args.load_lang_adapter:
            raise TrainingError("an adapter is to be loaded, and none to be trained: pass --train_adapter as well")
        return None, None
    options = {"overwrite_ok": True} | dict(adapter_load_kwargs or {})
    if adapter_args.load_adapter:
        model.load_adapter(adapter_args.load_adapter, load_as=adapter_name, **options)
    elif adapter_name not in model.adapters:
        model.add_adapter(adapter_name, config=load_config(adapter_args.adapter_config, **adapter_config_kwargs or {}))
    language = None
    if adapter_args.load_lang_adapter:
        language = model.load_adapter(adapter_args.load_lang_adapter, **options)
    model.train_adapter(adapter_name)
    if language is not None:
        model.set_active_adapters(Stack(language, adapter_name))
    return adapter_name, language


class AdapterTrainerCallback(TrainerCallback):
    """Has any trainer refuse to train adapters of a model whose base is not frozen.

    What fusions add to the loss is part of it already.

    Raises:
        TrainingError: at the start of a training, if a parameter of the base model would be trained.
    """

    def __init__(self, trainer: Trainer | None = None) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the model."""
        model = kwargs["model"]
        if isinstance(model, AdapterMixin) and any(one.requires_grad for one in model.base_parameters()):
            raise TrainingError("the base model is not frozen: call model.train_adapter(name) before it is trained")
