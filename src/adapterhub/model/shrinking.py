"""Bottleneck adapters made narrower: the hidden units that change least are taken out, layer by layer, to a budget.

A unit j of a bottleneck adds f(down(y))_j times the column u_j of ``up_proj`` to its result. Without the unit, its mean
over some data goes into the bias of ``up_proj``, and what is lost is its variance: var(f(down(y))_j) |u_j|^2. Units of
all layers are ranked by that together, so each layer keeps as many as it needs: structured pruning by activations
(among the criteria of Molchanov et al. 2017, arXiv:1611.06440, section 2.2). Without data, |d_j|^2 |u_j|^2 with the row
d_j of ``down_proj`` takes its place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.engine import Adapter, AdapterSetup, Engine
from adapterhub.errors import ConfigError, DataError
from adapterhub.methods.bottleneck import Bottleneck, BottleneckConfig

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin

_Base: Any = PreTrainedModel if TYPE_CHECKING else object
Batches = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Units:
    """The hidden units of one bottleneck: their means and what each contributes (float64), ``[size]``."""

    part: Bottleneck
    layer: int
    means: Tensor
    contributions: Tensor

    def best(self, count: int) -> list[int]:
        """The numbers of those that contribute most, in their order."""
        return sorted(self.contributions.argsort(descending=True, stable=True)[:count].tolist())


class ShrinkingMixin(_Base):
    """Adapters of a model made smaller."""

    engine: Engine

    def prune_adapter(
        self,
        adapter_name: str,
        keep: float,
        data: Batches = (),
        new_name: str | None = None,
        overwrite_ok: bool = False,
    ) -> dict[int, int]:
        """Add a bottleneck adapter that has only some of the hidden units of another one.

        Which they are is a matter of all layers together: those whose outputs vary most, times the size of what they
        add. A layer keeps one at least. What the others add on average goes into the bias.

        Args:
            adapter_name: the adapter, which stays as it is.
            keep: the share of units that is kept, above 0 and at most 1.
            data: batches, as for ``forward``, to look at; a few hundred rows of what the adapter is for are enough.
                Without any, the sizes of its weights decide.
            new_name: of the smaller adapter; by default it takes the place of the other.
            overwrite_ok: replace an adapter of the new name.

        Returns:
            How many units each layer keeps, by its number.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            AdapterExistsError: if the new name is taken.
            ConfigError: if it is no bottleneck with matrices of its own, or ``keep`` is out of range.
        """
        if not 0 < keep <= 1:
            raise ConfigError(f"keep is the share of hidden units that stays, above 0 and at most 1, not {keep}")
        adapter = self.engine.get(adapter_name)
        name = adapter_name if new_name is None else new_name
        self.engine.check_free(name, overwrite_ok or new_name is None)
        units = hidden_units(self, adapter, data)
        sizes = _sizes(units, keep)
        self.engine.hold(_pruned(adapter, name, units, sizes, self.engine.build))
        return sizes


@torch.no_grad()
def hidden_units(model: Any, adapter: Adapter, data: Batches) -> list[Units]:
    """What each hidden unit of a bottleneck adapter contributes.

    Raises:
        ConfigError: if it has none, or not in matrices of its own.
        DataError: if there are batches and the adapter acts on none of their tokens.
    """
    layers = {place.name: place.layer for place in model.engine.places}
    parts = {
        site: part
        for site in adapter.site_names
        for part in adapter.parts(site)
        if isinstance(part, Bottleneck) and isinstance(part.down_proj, nn.Linear)
    }
    if not isinstance(adapter.config, BottleneckConfig) or not parts:
        raise ConfigError(f"adapter {adapter.name!r} ({adapter.config.method}) has no bottleneck of whole matrices")
    moments = {site: _Moments() for site in parts}
    with _looking(model, adapter, parts, moments) as look:
        for batch in data:
            look(batch)
    return [_units(part, layers[site], moments[site]) for site, part in parts.items()]


class _Moments:
    """Sums of values and of their squares, over tokens."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook of ``up_proj``: what it reads, ``[batch, seq, size]``, but for padding."""
        values = args[0].detach()
        if self.mask is not None and self.mask.shape == values.shape[:-1]:
            values = values[self.mask]
        tokens = values.flatten(0, -2).double()
        self.count += len(tokens)
        self.sum, self.squares = self.sum + tokens.sum(0), self.squares + tokens.square().sum(0)


@contextmanager
def _looking(
    model: "AdapterMixin", adapter: Adapter, parts: Mapping[str, Bottleneck], moments: Mapping[str, _Moments]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What runs a batch through the adapter and takes note of what its units give."""

    def look(batch: Mapping[str, Any]) -> None:
        inputs = {key: value.to(model.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        mask = inputs.get("attention_mask")
        for site, one in moments.items():
            given = inputs.get("decoder_attention_mask") if site.startswith("decoder.") else mask
            one.mask = given.bool() if isinstance(given, Tensor) else None
        model(**inputs)
        if not all(one.count for one in moments.values()):
            raise DataError(f"adapter {adapter.name!r} acts on no token of a batch")

    was_training = model.training
    with ExitStack() as stack:
        for site, part in parts.items():
            handle = part.up_proj.register_forward_pre_hook(moments[site].add)
            stack.callback(handle.remove)
        stack.callback(model.train, was_training)
        model.eval()
        stack.enter_context(AdapterSetup(adapter.name))
        yield look


def _units(part: Bottleneck, layer: int | None, moments: _Moments) -> Units:
    down, up = part.down_proj.weight.double(), part.up_proj.weight.double()
    columns = up.square().sum(0)
    if moments.count == 0:
        return Units(part, layer or 0, torch.zeros(len(down)), down.square().sum(1) * columns)
    means = torch.as_tensor(moments.sum) / moments.count
    variances = (torch.as_tensor(moments.squares) / moments.count - means.square()).clamp(min=0)
    return Units(part, layer or 0, means, variances * columns)


def _sizes(units: Sequence[Units], keep: float) -> dict[int, int]:
    """How many units each layer keeps: its bottlenecks (after attention, after the feed-forward) are of one size."""
    worth: dict[int, Tensor] = {}
    for one in units:
        ranked = one.contributions.sort(descending=True).values.cpu()
        worth[one.layer] = worth.get(one.layer, 0) + ranked
    total = max(len(worth), round(keep * sum(len(values) for values in worth.values())))
    rest = sorted(((float(value), layer) for layer, values in worth.items() for value in values[1:]), reverse=True)
    sizes = dict.fromkeys(worth, 1)
    for _, layer in rest[: total - len(worth)]:
        sizes[layer] += 1
    return sizes


def _pruned(
    adapter: Adapter,
    name: str,
    units: Sequence[Units],
    sizes: Mapping[int, int],
    build: Callable[[str, BottleneckConfig], Adapter],
) -> Adapter:
    widths = {one.layer: one.part.up_proj.weight.shape[0] for one in units}
    factors = {str(layer): _factor(widths[layer], size) for layer, size in sizes.items()}
    assert isinstance(adapter.config, BottleneckConfig)
    with torch.random.fork_rng(devices=[]):
        made = build(name, adapter.config.replace(reduction_factor=factors))
    kept = {id(one.part): (one, one.best(sizes[one.layer])) for one in units}
    with torch.no_grad():
        for site in adapter.site_names:
            for new, old in zip(made.parts(site), adapter.parts(site), strict=True):
                state = old.state_dict()
                if id(old) in kept:
                    state = _narrowed(state, *kept[id(old)])
                new.load_state_dict(state)
    return made.to(next(adapter.parameters()).dtype)


def _factor(width: int, size: int) -> float:
    """The reduction factor that gives a bottleneck of ``size``: rounding must not make it one less."""
    return width / size if width // (width / size) == size else width / (size + 0.5)


def _narrowed(state: Mapping[str, Tensor], units: Units, kept: Sequence[int]) -> dict[str, Tensor]:
    """The parameters of a bottleneck with the units ``kept`` alone."""
    gone = [unit for unit in range(len(units.means)) if unit not in set(kept)]
    up = state["up_proj.weight"]
    lost = up[:, gone].double() @ units.means[gone].to(up.device).double()
    return {
        **state,
        "down_proj.weight": state["down_proj.weight"][kept],
        "down_proj.bias": state["down_proj.bias"][kept],
        "up_proj.weight": up[:, kept],
        "up_proj.bias": state["up_proj.bias"] + lost.to(up.dtype),
    }
