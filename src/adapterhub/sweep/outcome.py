"""One architecture, examined: built small, its sites found, an adapter of every method checked in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from adapterhub.auto import init
from adapterhub.errors import AdapterHubError
from adapterhub.sites import Sites, probe
from adapterhub.sweep.architectures import NotBuiltError, builds, reads_text
from adapterhub.sweep.checks import METHODS, CheckError, Run, check, seeded_run

_ROWS = 2


@dataclass
class Outcome:
    """What was found out about one architecture.

    ``methods`` maps each method to None where every check passed, else to the reason; ``towers`` are those that ran,
    ``sublayers`` counts them by kind, ``prefixed`` those whose attention can read a prefix.
    """

    name: str
    model_class: str = ""
    text: bool = False
    towers: tuple[str, ...] = ()
    layers: int = 0
    sublayers: dict[str, int] = field(default_factory=dict)
    prefixed: int = 0
    methods: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.towers = tuple(self.towers)  # JSON knows lists alone

    def passes(self, method: str) -> bool:
        """Whether every check of a method passed."""
        return self.methods.get(method, "not checked") is None

    @classmethod
    def failed(cls, name: str, reason: str) -> "Outcome":
        """An architecture of which nothing could be checked."""
        return cls(name, methods=dict.fromkeys(METHODS, reason))


def examine(name: str) -> Outcome:
    """Check every method on an architecture; whatever goes wrong is the reason of a no."""
    outcome = Outcome.failed(name, "")
    reasons: list[str] = []
    try:
        for model in builds(name):
            outcome.model_class, outcome.text = type(model).__name__, reads_text(model)
            try:
                init(model)
            except Exception as error:  # any model's code may run here
                reasons.append(_short(_words(error)))
            else:
                _describe(outcome, model.sites)
                outcome.methods = dict(_checked(model))
                break
        else:
            outcome.methods = dict.fromkeys(METHODS, reasons[0])
    except NotBuiltError as error:
        outcome.methods = dict.fromkeys(METHODS, [*reasons, _short(str(error))][0])
    return outcome


def _describe(outcome: Outcome, sites: Sites) -> None:
    outcome.towers, outcome.layers = sites.towers, len(sites.layers)
    outcome.sublayers = dict(Counter(sublayer.kind for sublayer in sites.sublayers))
    outcome.prefixed = sum(sublayer.attention is not None for sublayer in sites.sublayers)


def _checked(model: Any) -> Iterator[tuple[str, str | None]]:
    bare = [layer.path for layer in model.sites.layers if not layer.sublayers]
    run = probe.run(model, _runs)
    for method in METHODS:
        reason = f"nothing was found in {', '.join(bare)}" if bare else None
        reason = reason or _no_place(model.sites, method)
        try:
            if reason is None:
                check(model, method, run)
        except Exception as error:  # any model's code may run here
            reason = _short(_words(error))
            if "sweep" in model.adapters:
                model.delete_adapter("sweep")
        yield method, reason


def _no_place(sites: Sites, method: str) -> str | None:
    """Why a method can act nowhere, where that is known before it is tried."""
    if method == "prefix" and not any(sublayer.attention for sublayer in sites.sublayers):
        return "no attention of it asks the attention interface of transformers for its function"
    if method == "reft" and not any(layer.width for layer in sites.layers):
        return "what its layers give is not one row of numbers for each token"
    return None


def _runs(model: PreTrainedModel, kwargs: Mapping[str, Any]) -> Run:
    """Passes on random inputs of the shapes of ``kwargs``, of several rows where the model takes that."""
    for rows in (_ROWS, 1):
        run = seeded_run(model, varied(model.config, kwargs, rows))
        try:
            with torch.no_grad():
                run()
        except Exception:  # grids of images, for one, have no row for each image
            if rows == 1:
                raise
            continue
        break
    return run


def varied(config: PretrainedConfig, kwargs: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Inputs with random numbers and random tokens for those given, in ``rows`` rows; special tokens stay."""
    generator = torch.Generator().manual_seed(0)
    made = dict(kwargs)
    for name, value in kwargs.items():
        if not isinstance(value, Tensor):
            continue
        value = value.repeat(rows, *(1,) * (value.dim() - 1))
        if value.is_floating_point():
            value = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        elif name.endswith("input_ids"):
            ordinary, least = value[:, :1], 3
            drawn = torch.randint(least, max(least + 1, int(ordinary.max()) * 2), value.shape, generator=generator)
            value = torch.where(special(config, value), value, drawn)
        made[name] = value
    return made


def special(config: PretrainedConfig, ids: Tensor) -> Tensor:
    """Which ids are those of special tokens."""
    known: set[int] = set()
    for one in probe.nested(config):
        for name, value in vars(one).items():
            if "token" in name:
                found = value if isinstance(value, (list, tuple)) else [value]
                known |= {token for token in found if isinstance(token, int) and not isinstance(token, bool)}
    return torch.isin(ids, torch.tensor(sorted(known), dtype=ids.dtype))


def _words(error: Exception) -> str:
    own = isinstance(error, (AdapterHubError, CheckError))
    return str(error) if own else f"{type(error).__name__}: {error}"


def _short(text: str, longest: int = 200) -> str:
    text = " ".join(text.split()).removesuffix(probe.BY_HAND).strip()
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
