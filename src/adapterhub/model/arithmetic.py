"""Arithmetic on adapters: a new one out of the parameters of several.

Task arithmetic (Ilharco et al. 2023), TIES (Yadav et al. 2023), DARE (Yu et al. 2024), pruning by magnitude, and for
LoRA the best approximation of a sum of changes by singular values. All but the plain sums work on what an adapter
*changes*: the difference of its parameters to neutral ones, those with which a new adapter begins if they are no random
numbers (ones in (IA)³, the base model's own norms), else zero.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapterhub.composition import Strategy
from adapterhub.engine import Adapter, Engine
from adapterhub.engine.shares import names_and_weights
from adapterhub.errors import ConfigError, MergeError
from adapterhub.methods import AdapterConfig, Mergeable, Place
from adapterhub.methods.lora import LoRAConfig, LowRank
from adapterhub.methods.low_rank import nearest_factors

Build = Callable[[str, AdapterConfig], Adapter]
_Base: Any = PreTrainedModel if TYPE_CHECKING else object
State = dict[str, Tensor]


class ArithmeticMixin(_Base):
    """Adapters of a model combined to new ones."""

    engine: Engine

    def average_adapter(
        self,
        adapter_name: str,
        adapter_list: "Sequence[str] | Mapping[str, float]",
        weights: "Sequence[float] | None" = None,
        combine_strategy: Strategy = "linear",
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
        svd_rank: int | None = None,
        density: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Add an adapter that is made of the parameters of others of the same configuration.

        Args:
            adapter_name: of the new one.
            adapter_list: names, or names with their weights.
            weights: one for each; equal ones by default. They are made to add up to 1 unless ``normalize_weights`` is
                False: subtract (task arithmetic) by a weight below 0.
            combine_strategy: ``"linear"``, the weighted sum of parameters; ``"lora_linear_only_negate_b"``, the same,
                where a weight below 0 changes the sign of only one of two matrices; ``"lora_delta_w_svd"``, the LoRA of
                rank ``svd_rank`` (by default that of the first) that is nearest to the weighted sum of changes;
                ``"magnitude_prune"``, the weighted sum of the largest values; ``"ties"``; ``"dare_linear"``;
                ``"dare_ties"``. For the last four ``density`` is the share of values that are kept, and ``seed``
                decides which DARE keeps.
            overwrite_ok: replace an adapter of that name.
            set_active: make it the active adapter.

        Raises:
            AdapterExistsError: if the name is taken.
            AdapterNotFoundError: if one of the others is not there.
            MergeError: if their configurations differ, or the strategy is not one for their method.
            ConfigError: for weights, a strategy or a density that cannot be.
        """
        names, shares = names_and_weights(adapter_list, weights, normalize_weights)
        self.engine.check_free(adapter_name, overwrite_ok)
        adapters = [self.engine.get(name) for name in names]
        places, build = self.engine.places, self.engine.build
        options: Any = {"density": density, "svd_rank": svd_rank, "seed": seed}
        self.engine.hold(combine(adapter_name, adapters, shares, combine_strategy, places, build, **options))
        if set_active:
            self.set_active_adapters(adapter_name)

    def convert_adapter(self, name: str, new_name: str, rank: int, overwrite_ok: bool = False) -> None:
        """Add a LoRA of some rank that comes as near as it can to what an adapter does to weights.

        Raises:
            AdapterNotFoundError: if there is none of that name.
            AdapterExistsError: if the new name is taken.
            MergeError: if the adapter acts on more than weights.
            ConfigError: if it has gates, or the rank is none.
        """
        self.engine.check_free(new_name, overwrite_ok)
        self.engine.hold(to_lora(new_name, self.engine.get(name), rank, self.engine.places, self.engine.build))


@torch.no_grad()
def combine(
    name: str,
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    strategy: Strategy,
    places: Sequence[Place],
    build: Build,
    *,
    density: float = 0.5,
    svd_rank: int | None = None,
    seed: int = 0,
) -> Adapter:
    """A new adapter out of several; see ``ArithmeticMixin.average_adapter``.

    Raises:
        MergeError: if their configurations differ, or the strategy is not one for their method.
        ConfigError: for an unknown strategy, or a density that is no share above 0.
    """
    if strategy not in get_args(Strategy):
        raise ConfigError(f"unknown combine_strategy {strategy!r}. Known: {', '.join(get_args(Strategy))}.")
    if not 0 < density <= 1:
        raise ConfigError(f"density is a share of the parameters, above 0 and at most 1, not {density}")
    if strategy == "lora_delta_w_svd":
        return _by_svd(name, adapters, weights, places, build, svd_rank)
    first = adapters[0]
    for other in adapters[1:]:
        if other.config != first.config:
            raise MergeError(
                f"adapters {first.name!r} and {other.name!r} have other configurations; parameters of unlike adapters "
                "cannot be added"
            )
    made = build(name, first.config)
    own = {path for path, _ in made.named_parameters()}
    states = [{path: value for path, value in adapter.state_dict().items() if path in own} for adapter in adapters]
    if strategy == "linear":
        result = _sum(states, weights)
    elif strategy == "lora_linear_only_negate_b":
        result = _negating_b(first, states, weights)
    else:
        neutral = _neutral(first.config, states[0], build)
        changes = [{path: value - neutral[path] for path, value in state.items()} for state in states]
        total = _combined(changes, weights, strategy, density, seed)
        result = {path: neutral[path] + value for path, value in total.items()}
    others = {path: value for path, value in first.state_dict().items() if path not in own}  # buffers
    made.load_state_dict({path: value.to(first.state_dict()[path].dtype) for path, value in (result | others).items()})
    return made


@torch.no_grad()
def to_lora(name: str, adapter: Adapter, rank: int, places: Sequence[Place], build: Build) -> Adapter:
    """The LoRA of some rank that comes nearest to what an adapter does to weights (Eckart and Young 1936).

    Raises:
        MergeError: if the adapter acts on more than weights.
        ConfigError: if it depends on the input, as gates do, or the rank is none.
    """
    sites = {place.name: place for place in places if adapter.parts(place.name)}
    changes: dict[str, tuple[Tensor, Tensor | None]] = {}
    for site, place in sites.items():
        parts = adapter.parts(site)
        part = parts[0]
        weight = place.any_weight
        if weight is None or len(parts) > 1 or not isinstance(part, Mergeable):
            raise MergeError(f"adapter {adapter.name!r} cannot be a LoRA: it acts at {site}, not on a weight alone")
        matrix, bias = part.merged(weight)
        old = weight.bias
        shift = None if bias is None else bias.float() - (0 if old is None else old.float())
        changes[site] = (weight.by_output(matrix.float() - weight.matrix.float()), shift)
    biased = any(shift is not None and bool(shift.any()) for _, shift in changes.values())
    config = _targeting(LoRAConfig(r=rank, alpha=rank, bias=biased), [sites[site] for site in changes], places)
    made = build(name, config)
    for site in made.site_names:
        (part,) = made.parts(site)
        assert isinstance(part, LowRank)
        if site not in changes:  # a role that another weight has too
            part.lora_B.zero_()
            continue
        change, shift = changes[site]
        _put_factors(part, change)
        if part.bias is not None and shift is not None:
            part.bias.copy_(shift)
    return made


def _by_svd(
    name: str,
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    places: Sequence[Place],
    build: Build,
    svd_rank: int | None,
) -> Adapter:
    configs = [adapter.config for adapter in adapters]
    plain = all(isinstance(config, LoRAConfig) and not (config.use_dora or config.use_gating) for config in configs)
    if not plain:
        raise MergeError("lora_delta_w_svd adds the changes of plain LoRA alone, without gates or DoRA")
    sites = [place for place in places if any(adapter.at(place.name) is not None for adapter in adapters)]
    first = configs[0]
    assert isinstance(first, LoRAConfig)
    rank = svd_rank or first.r
    config = _targeting(LoRAConfig(r=rank, alpha=rank, bias=any(one.bias for one in configs)), sites, places)  # type: ignore[attr-defined]
    made = build(name, config)
    for site in made.site_names:
        (part,) = made.parts(site)
        assert isinstance(part, LowRank)
        total, shift = torch.zeros(1), torch.zeros(1)
        for adapter, weight in zip(adapters, weights, strict=True):
            own = adapter.at(site)
            if isinstance(own, LowRank):
                down, up = own.factors()
                total = total.to(up.device) + weight * own.scaling * (
                    up @ down.reshape(*up.shape[:-2], up.shape[-1], -1)
                )
                shift = shift.to(up.device) + (0 if own.bias is None else weight * own.bias)
        if total.dim() == 1:
            part.lora_B.zero_()
            continue
        _put_factors(part, total)
        if part.bias is not None:
            part.bias.copy_(shift.expand_as(part.bias))
    return made


def _targeting(config: LoRAConfig, sites: Sequence[Place], places: Sequence[Place]) -> LoRAConfig:
    """A configuration that acts at some places: by their paths, or their roles where they are parts of a weight.

    A weight has at most its own rank.
    """
    targets = dict.fromkeys(place.path if place.whole else place.role for place in sites)
    chosen = config.replace(target_modules=tuple(targets))
    largest = {
        place: min(weight.shape[0], math.prod(weight.shape[1:]))
        for place in places
        if (weight := place.any_weight) is not None and chosen.acts_at(place)
    }
    small = {re.escape(place.path): rank for place, rank in largest.items() if rank < chosen.r}
    return chosen.replace(rank_pattern=small)


def _put_factors(part: LowRank, change: Tensor) -> None:
    """The factors of the matrix of the part's rank that is nearest to ``change``, which has a row for each output."""
    down, up = nearest_factors(change / part.scaling, part.lora_B.shape[-1])
    part.lora_A.copy_(down.view_as(part.lora_A))
    part.lora_B.copy_(up)


def _sum(states: Sequence[State], weights: Sequence[float]) -> State:
    return {
        path: torch.stack([weight * state[path].float() for state, weight in zip(states, weights, strict=True)]).sum(0)
        for path in states[0]
    }


def _negating_b(first: Adapter, states: Sequence[State], weights: Sequence[float]) -> State:
    """As ``_sum``, but of what two matrices multiply only one changes its sign (Zhang et al. 2023, section 3)."""
    if first.config.method != LoRAConfig.method:
        raise MergeError(f"lora_linear_only_negate_b is for LoRA, not for {first.config.method}")
    positive = [abs(weight) for weight in weights]
    signed, unsigned = _sum(states, weights), _sum(states, positive)
    return {path: unsigned[path] if path.endswith("lora_A") else signed[path] for path in signed}


def _neutral(config: AdapterConfig, like: State, build: Build) -> State:
    """What changes nothing: values with which a new adapter begins if they are no random numbers, else 0."""
    with torch.random.fork_rng(devices=[]):
        one, other = (build("neutral", config).state_dict() for _ in range(2))
    return {
        path: one[path].to(value) if torch.equal(one[path], other[path]) else torch.zeros_like(value)
        for path, value in like.items()
    }


def _combined(
    changes: Sequence[State], weights: Sequence[float], strategy: Strategy, density: float, seed: int
) -> State:
    generator = torch.Generator().manual_seed(seed)
    sparse = [
        _dropped(change, density, generator) if strategy.startswith("dare") else _trimmed(change, density)
        for change in changes
    ]
    return _elected(sparse, weights) if strategy.endswith("ties") else _sum(sparse, weights)


def _trimmed(change: State, density: float) -> State:
    """The largest values of a change, as many as ``density`` says of all of them; the others 0."""
    sizes = torch.cat([value.abs().flatten().float().cpu() for value in change.values()])
    kept = max(1, round(density * sizes.numel()))
    least = sizes.kthvalue(sizes.numel() - kept + 1).values
    return {path: torch.where(value.abs() >= least.to(value), value, 0) for path, value in change.items()}


def _dropped(change: State, density: float, generator: torch.Generator) -> State:
    """Values dropped at random, and the rest scaled so that the mean stays (Yu et al. 2024, section 3.2)."""
    return {
        path: value * (torch.rand(value.shape, generator=generator) < density).to(value) / density
        for path, value in change.items()
    }


def _elected(changes: Sequence[State], weights: Sequence[float]) -> State:
    """The weighted mean of those values that have the sign of the weighted sum (Yadav et al. 2023, section 3.2)."""
    result: State = {}
    for path in changes[0]:
        values = torch.stack([weight * change[path].float() for change, weight in zip(changes, weights, strict=True)])
        agree = (values.sign() == values.sum(0).sign()) & (values != 0)
        sizes = torch.tensor([abs(weight) for weight in weights]).to(values).view(-1, *(1,) * (values.dim() - 1))
        total = (agree * sizes).sum(0)
        result[path] = torch.where(total > 0, (values * agree).sum(0) / total.clamp(min=1e-12), 0)
    return result
