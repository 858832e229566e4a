"""Training in a fraction of the time: adapters in the upper layers alone, over a trunk that runs once."""

import re
from dataclasses import dataclass, replace

from adapterhub.errors import ConfigError
from adapterhub.methods import load_config
from adapterhub.methods.ladder import LadderConfig
from adapterhub.training.evaluation import sites_of
from adapterhub.training.settings import Settings

_BELOW = 1 / 3  # of all layers: those that are left out
_EPOCHS = 3 / 5  # of those that were asked for


@dataclass(frozen=True)
class Fast:
    """Settings that train fast, and what they trade, in words."""

    settings: Settings
    trades: str


def fast(settings: Settings) -> Fast:
    """The same training with adapters in the upper two thirds of the layers, and three fifths of the epochs.

    Lower layers then depend on no adapter: what they give is computed once for a text, and not in every epoch: train
    with a ``TrunkCache``. A ladder acts in no layer, and stays as it is.

    Raises:
        BackboneError: if there is no such model.
        ConfigError: for a method that cannot leave out layers, or a model of less than two.
        SiteError: if the model has no layers that can be adapted.
    """
    layers = len(sites_of(settings.model).layers)
    below = max(1, round(layers * _BELOW))
    if layers < 2:
        raise ConfigError(f"{settings.model} has {layers} layer, and training fast leaves out lower ones")
    method = "|".join(_leaving_out(part, below) for part in re.split(r"\|(?![^\[]*\])", settings.method))
    load_config(method)
    where = f"adapters act in the upper {layers - below} of {layers} layers; " if method != settings.method else ""
    epochs = max(1, round(settings.epochs * _EPOCHS))
    fewer = f"; epochs are {epochs} in the place of {settings.epochs}" if epochs != settings.epochs else ""
    trades = f"fast: {where}what layers below give is computed once a text, and kept in bfloat16{fewer}"
    return Fast(replace(settings, method=method, epochs=epochs), trades)


def _leaving_out(config: str, below: int) -> str:
    """The configuration with the lowest layers left out, unless it says itself which are."""
    match = re.fullmatch(r"\s*([\w+-]+)\s*(?:\[(.*)\])?\s*", config, re.DOTALL)
    if match is None:
        raise ConfigError(
            f"to train fast, name the configuration ('seq_bn', say) in the place of {config!r}; or leave out lower "
            "layers there (leave_out), and train with a trunk cache"
        )
    name, options = match.groups()
    if "leave_out" in (options or "") or isinstance(load_config(config), LadderConfig):
        return config
    return f"{name}[{', '.join(filter(None, (options, f'leave_out={list(range(below))}')))}]"
