"""Bottleneck adapters: two small projections with a non-linearity between them, around a sublayer.

With h the output of a sublayer and x the residual stream that it is added to, the base model computes h + x, or
LN(h + x) where a layer norm follows. An adapter puts z = residual + s * up(f(down(y))) in the place of h. What y and
the residual are is a matter of the configuration:

    Houlsby et al. 2019 (double_seq_bn):  y = h,          residual = h   after attention and feed-forward
    Pfeiffer et al. 2020 (seq_bn):        y = LN(h + x),  residual = h   after the feed-forward
    He et al. 2021 (par_bn):              y = x,          residual = h   parallel to the feed-forward
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import AdapterConfig, Modules, OwnNorm, Place, seeded
from adapterhub.methods.gathered import ACTIVATIONS, LARGEST, gathered
from adapterhub.methods.invertible import BLOCKS
from adapterhub.methods.phm import PHMLinear, PHMOptions, PHMShared
from adapterhub.methods.registry import register
from adapterhub.methods.stacked import StackableLinear, beside

LayerNorm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class BottleneckConfig(AdapterConfig):
    """Every option of the bottleneck family (Houlsby et al. 2019; Pfeiffer et al. 2020; He et al. 2021).

    Where it acts: ``mh_adapter`` after attention, ``output_adapter`` after the feed-forward, ``cross_adapter`` after
    cross-attention; ``leave_out`` names layers to skip, counted over the whole model, encoder first.

    Its size: ``reduction_factor`` divides the hidden size; a mapping gives one for each layer number (as text) and
    one for ``"default"``.

    Its input: ``original_ln_before`` takes y = LN(h + x) (h + x where the model has no norm there) rather than h;
    ``is_parallel`` takes y = x; ``ln_before`` adds a layer norm of its own.

    Its output: ``scaling`` is a number, ``"learned"`` (one number) or ``"channel"`` (one a channel); ``use_gating``
    multiplies by a sigmoid gate, one a row; ``dropout`` and ``stochastic_depth`` (rows left out) act in training;
    ``ln_after`` adds a layer norm, before which the residual is added if ``adapter_residual_before_ln``.

    Its residual: ``residual_before_ln`` True takes h, ``"post_add"`` h + x before the norm, False what the norm gave
    (the last two differ from True only with ``original_ln_before``). ``original_ln_after`` False leaves out what the
    base model does with the result (adding x, and its norm).

    ``train_layer_norm`` gives the adapter its own trained copy of every layer norm of the model (Houlsby et al. 2019,
    section 2.1). ``init_weights``: ``"bert"`` normal(0, 0.02); ``"mam_adapter"`` uniform down and zero up, the
    identity to the bit; ``"houlsby"`` normal(0, 0.01) cut at two deviations. Biases start at zero.

    Raises:
        ConfigError: for a value out of range.
    """

    method: ClassVar[str] = "bottleneck"

    mh_adapter: bool = False
    output_adapter: bool = True
    reduction_factor: float | Mapping[str, float] = 16
    non_linearity: str = "relu"
    original_ln_before: bool = False
    original_ln_after: bool = True
    ln_before: bool = False
    ln_after: bool = False
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = "bert"
    init_weights_seed: int | None = None
    is_parallel: bool = False
    scaling: float | Literal["learned", "channel"] = 1.0
    use_gating: bool = False
    residual_before_ln: bool | Literal["post_add"] = True
    adapter_residual_before_ln: bool = False
    cross_adapter: bool = False
    leave_out: tuple[int | str, ...] = ()
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    train_layer_norm: bool = False
    inv_adapter: Literal["nice", "glow"] | None = None
    inv_adapter_reduction_factor: float = 2
    phm_layer: bool = False
    phm_dim: int = 4
    factorized_phm_W: bool = True  # noqa: N815 (the field's name for it)
    shared_W_phm: bool = False  # noqa: N815
    shared_phm_rule: bool = True
    factorized_phm_rule: bool = False
    phm_c_init: Literal["normal", "uniform"] = "normal"
    phm_init_range: float = 0.0001
    learn_phm: bool = True
    hypercomplex_nonlinearity: Literal["glorot-uniform", "glorot-normal", "normal"] = "glorot-uniform"
    phm_rank: int = 1
    phm_bias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        activation(self.non_linearity)
        self._require(self.init_weights in _INITIALISATIONS, "init_weights", "bert, mam_adapter or houlsby")
        self._require(
            self.scaling in ("learned", "channel") or _is_number(self.scaling),
            "scaling",
            "a number, 'learned' or 'channel'",
        )
        self._require(
            self.residual_before_ln in (True, False, "post_add"),
            "residual_before_ln",
            "True, False or 'post_add'",
        )
        self._require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self._require(0 <= self.stochastic_depth < 1, "stochastic_depth", "in [0, 1)")
        if not isinstance(self.reduction_factor, Mapping):
            self._require(
                _is_number(self.reduction_factor) and self.reduction_factor > 0, "reduction_factor", "above 0"
            )
        self._require(self.inv_adapter in (None, *BLOCKS), "inv_adapter", "None, 'nice' or 'glow'")
        positive = _is_number(self.inv_adapter_reduction_factor) and self.inv_adapter_reduction_factor > 0
        self._require(positive, "inv_adapter_reduction_factor", "above 0")
        for name in ("phm_dim", "phm_rank"):
            value = getattr(self, name)
            self._require(isinstance(value, int) and value > 0, name, "whole and above 0")
        self._require(self.phm_c_init in ("normal", "uniform"), "phm_c_init", "normal or uniform")
        kinds = ("glorot-uniform", "glorot-normal", "normal")
        self._require(self.hypercomplex_nonlinearity in kinds, "hypercomplex_nonlinearity", ", ".join(kinds))
        places = self.mh_adapter or self.output_adapter or self.cross_adapter or self.train_layer_norm
        self._require(places, "output_adapter", "True where neither mh_adapter nor cross_adapter is")

    def modules(self, places: Sequence[Place]) -> Modules:
        sizes = {(place.width, self.bottleneck_size(place)) for place in places if self._wants(place)}
        if not sizes or not self._shares:
            return Modules({place.name: part for place in places if (part := self._part(place, None)) is not None})
        if len(sizes) != 1 and self.shared_W_phm:
            raise ConfigError(f"shared_W_phm needs layers of one width and one reduction_factor, not {sorted(sizes)}")
        shared = PHMShared(self.phm, *min(sizes))
        made = {place.name: part for place in places if (part := self._part(place, shared)) is not None}
        return Modules(made, shared)

    @property
    def _shares(self) -> bool:
        return self.phm_layer and (self.shared_phm_rule or self.shared_W_phm)

    @property
    def phm(self) -> PHMOptions:
        """The options of PHM layers."""
        return PHMOptions(
            self.phm_dim,
            self.factorized_phm_W,
            self.shared_W_phm,
            self.shared_phm_rule,
            self.factorized_phm_rule,
            self.phm_c_init,
            self.phm_init_range,
            self.learn_phm,
            self.hypercomplex_nonlinearity,
            self.phm_rank,
            self.phm_bias,
            self.init_weights_seed,
        )

    def _part(self, place: Place, shared: PHMShared | None) -> nn.Module | None:
        if place.is_in(self.leave_out):
            return None
        if place.kind == "norm":
            return OwnNorm(place.norm) if self.train_layer_norm and place.norm is not None else None
        if place.kind == "embeddings":
            return self._invertible(place.width)
        return Bottleneck(self, place, shared) if self._wants(place) else None

    def _wants(self, place: Place) -> bool:
        """Whether there is a bottleneck at a place."""
        wanted = {
            "attention": self.mh_adapter,
            "cross_attention": self.cross_adapter,
            "feed_forward": self.output_adapter,
        }
        return wanted.get(place.role, False) and not place.is_in(self.leave_out)

    def _invertible(self, width: int) -> nn.Module | None:
        if self.inv_adapter is None:
            return None
        block = BLOCKS[self.inv_adapter]
        return block(width, self.non_linearity, self.inv_adapter_reduction_factor, self.init_weights_seed)

    def bottleneck_size(self, place: Place) -> int:
        """Width of the bottleneck at ``place``: hidden size / reduction factor, rounded down, at least 1.

        Raises:
            ConfigError: if ``reduction_factor`` is a mapping with neither this layer nor ``"default"``.
        """
        factor = self.reduction_factor
        if isinstance(factor, Mapping):
            found = factor.get(str(place.layer), factor.get("default"))
            if found is None:
                raise ConfigError(
                    f"reduction_factor has no entry for layer {place.layer} and no 'default': {dict(factor)}"
                )
            factor = found
        return max(1, int(place.width // factor))


@dataclass(frozen=True, eq=False)
class SeqBnConfig(BottleneckConfig):
    """One adapter after the feed-forward, reading LN(h + x) (Pfeiffer et al. 2020)."""

    original_ln_before: bool = True


@dataclass(frozen=True, eq=False)
class DoubleSeqBnConfig(BottleneckConfig):
    """Adapters after attention and after the feed-forward, the base's norms frozen (after Houlsby et al. 2019)."""

    mh_adapter: bool = True
    non_linearity: str = "swish"


@dataclass(frozen=True, eq=False)
class SeqBnInvConfig(SeqBnConfig):
    """With an invertible adapter at the embeddings: the language adapters of MAD-X (Pfeiffer et al. 2020)."""

    inv_adapter: Literal["nice", "glow"] | None = "nice"


@dataclass(frozen=True, eq=False)
class DoubleSeqBnInvConfig(DoubleSeqBnConfig):
    """With an invertible adapter at the embeddings."""

    inv_adapter: Literal["nice", "glow"] | None = "nice"


@dataclass(frozen=True, eq=False)
class Houlsby2019Config(DoubleSeqBnConfig):
    """The paper's own: as DoubleSeqBnConfig, with GELU, its initialisation, and layer norms trained per adapter."""

    non_linearity: str = "gelu"
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = "houlsby"
    train_layer_norm: bool = True


@dataclass(frozen=True, eq=False)
class ParBnConfig(BottleneckConfig):
    """An adapter parallel to the feed-forward, scaled by 4 (He et al. 2021)."""

    reduction_factor: float | Mapping[str, float] = 2
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = "mam_adapter"
    is_parallel: bool = True
    scaling: float | Literal["learned", "channel"] = 4.0


@dataclass(frozen=True, eq=False)
class CompacterConfig(DoubleSeqBnConfig):
    """Bottlenecks of PHM layers after attention and feed-forward (Karimi Mahabadi et al. 2021)."""

    reduction_factor: float | Mapping[str, float] = 32
    non_linearity: str = "gelu"
    phm_layer: bool = True


@dataclass(frozen=True, eq=False)
class CompacterPlusPlusConfig(SeqBnConfig):
    """Compacter after the feed-forward alone."""

    reduction_factor: float | Mapping[str, float] = 32
    non_linearity: str = "gelu"
    phm_layer: bool = True


@dataclass(frozen=True, eq=False)
class AdapterPlusConfig(BottleneckConfig):
    """Adapter+ for vision transformers: channel scaling, stochastic depth (Steitz and Roth 2024)."""

    reduction_factor: float | Mapping[str, float] = 96
    non_linearity: str = "gelu"
    original_ln_before: bool = True
    original_ln_after: bool = False
    residual_before_ln: bool | Literal["post_add"] = False
    init_weights: Literal["bert", "mam_adapter", "houlsby"] = "houlsby"
    scaling: float | Literal["learned", "channel"] = "channel"
    stochastic_depth: float = 0.1


class Bottleneck(nn.Module):
    """The module of a bottleneck adapter at one sublayer of width ``width``."""

    def __init__(self, config: BottleneckConfig, place: Place, shared: PHMShared | None = None) -> None:
        super().__init__()
        width, size = place.width, config.bottleneck_size(place)
        self.config = config
        self.activation = activation(config.non_linearity)
        self.norm_before = nn.LayerNorm(width) if config.ln_before else None
        self.down_proj: nn.Linear | PHMLinear
        self.up_proj: nn.Linear | PHMLinear
        if config.phm_layer:
            self.down_proj = PHMLinear(config.phm, "down", width, size, shared, place.name)
            self.up_proj = PHMLinear(config.phm, "up", size, width, shared, place.name)
        else:
            self.down_proj, self.up_proj = StackableLinear(width, size), StackableLinear(size, width)
        self.norm_after = nn.LayerNorm(width) if config.ln_after else None
        self.gate = StackableLinear(width, 1) if config.use_gating else None
        self.scaling: nn.Parameter | float
        if isinstance(config.scaling, str):
            self.scaling = nn.Parameter(torch.ones(width if config.scaling == "channel" else 1))
        else:
            self.scaling = float(config.scaling)
        self._initialise(seeded(config.init_weights_seed, place.name))

    def _initialise(self, generator: torch.Generator | None) -> None:
        linears = [one for one in (self.down_proj, self.up_proj) if isinstance(one, nn.Linear)]
        if linears:
            _INITIALISATIONS[self.config.init_weights](self.down_proj.weight, self.up_proj.weight, generator)
        if self.gate is not None:
            nn.init.normal_(self.gate.weight, std=0.02, generator=generator)
            linears.append(self.gate)
        for linear in linears:
            nn.init.zeros_(linear.bias)

    @property
    def keeps_base_output(self) -> bool:
        """Whether the base model still adds x to the result and applies its norm."""
        return self.config.original_ln_after

    def takes_stacks(self, layer_norm: LayerNorm | None) -> bool:
        """Whether it runs with stacked parameters as it is: without norms of its own, and PHM layers."""
        return self.norm_before is None and self.norm_after is None and not self.config.phm_layer

    def gathers(self) -> bool:
        """Whether one kernel does for stacked parameters what it does: where it ``takes_stacks``, without a gate."""
        config, up = self.config, self.up_proj
        known = config.non_linearity.lower() in ACTIVATIONS and isinstance(up, nn.Linear) and up.in_features <= LARGEST
        drops = self.training and max(config.dropout, config.stochastic_depth) > 0
        return known and self.gate is None and not drops

    def gathered_forward(
        self, which: Tensor | None, hidden_states: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None
    ) -> Tensor:
        """``forward`` with stacked parameters ``[adapters, ...]``, of which ``which`` ``[n]`` says those of each share.

        The other arguments are ``[n, ..., hidden]``.
        """
        inputs, residual = self._inputs(hidden_states, residual_stream, layer_norm)
        return self._gathered(which, inputs, residual, hidden_states.dtype)

    def gathered_update(
        self, which: Tensor | None, hidden_states: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None
    ) -> Tensor:
        """``update``, as ``gathered_forward``."""
        inputs, residual = self._inputs(hidden_states, residual_stream, layer_norm)
        if residual is not hidden_states:
            return self._gathered(which, inputs, residual, residual.dtype) - hidden_states
        return self._gathered(which, inputs, None, None)

    def _gathered(
        self, which: Tensor | None, inputs: Tensor, residual: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        down, up = (self.down_proj.weight, self.down_proj.bias), (self.up_proj.weight, self.up_proj.bias)
        name = ACTIVATIONS[self.config.non_linearity.lower()]
        return gathered(inputs, residual, which, down, up, name, self.scaling, dtype)

    @property
    def own_dtype(self) -> torch.dtype:
        """That of its parameters."""
        down = self.down_proj
        # (Asking for all parameters takes as long as the product with them does in a batch of one.)
        return down.weight.dtype if isinstance(down, nn.Linear) else next(self.parameters()).dtype

    def forward(self, hidden_states: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None) -> Tensor:
        """Adapt the output of a sublayer.

        Args:
            hidden_states: h, the sublayer's output ``[batch, seq, hidden]``.
            residual_stream: x, what the base model adds to it, of the same shape.
            layer_norm: the norm that the base model applies to h + x, or None.

        Returns:
            z, ``[batch, seq, hidden]``, in the data type of ``hidden_states``.
        """
        inputs, residual = self._inputs(hidden_states, residual_stream, layer_norm)
        return self._adapted(inputs, residual).to(hidden_states.dtype)

    def update(self, hidden_states: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None) -> Tensor:
        """z - h, the change; arguments as of ``forward``."""
        inputs, residual = self._inputs(hidden_states, residual_stream, layer_norm)
        if residual is not hidden_states or self.norm_after is not None:
            return self._adapted(inputs, residual) - hidden_states
        return self._update(inputs)

    def reads(self, hidden_states: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None) -> Tensor:
        """What the adapter is applied to, ``[batch, seq, hidden]``; arguments as of ``forward``."""
        return self._inputs(hidden_states, residual_stream, layer_norm)[0]

    def _inputs(self, hidden: Tensor, residual_stream: Tensor, layer_norm: LayerNorm | None) -> tuple[Tensor, Tensor]:
        """What the adapter is applied to, and what its result is added to."""
        config = self.config
        if config.is_parallel:
            return residual_stream, hidden
        if not config.original_ln_before:
            return hidden, hidden
        total = hidden + residual_stream
        inputs = total if layer_norm is None else layer_norm(total)
        if config.residual_before_ln is True:
            return inputs, hidden
        return inputs, total if config.residual_before_ln == "post_add" else inputs

    def _adapted(self, inputs: Tensor, residual: Tensor) -> Tensor:
        update = self._update(inputs)
        if self.norm_after is None:
            return residual + update.to(residual.dtype)
        if self.config.adapter_residual_before_ln and not self.config.is_parallel:
            return cast(Tensor, self.norm_after(residual + update))
        return residual + self.norm_after(update).to(residual.dtype)

    def _update(self, inputs: Tensor) -> Tensor:
        own = self.own_dtype
        if inputs.dtype != own and not torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.to(own)  # a half-precision base with adapters in full precision
        down = self.down_proj(inputs if self.norm_before is None else self.norm_before(inputs))
        update: Tensor = self.up_proj(self.activation(down))
        if not (isinstance(self.scaling, float) and self.scaling == 1.0):
            update = update * (self.scaling if isinstance(self.scaling, float) else beside(self.scaling, update))
        if self.training and self.config.dropout:
            update = nn.functional.dropout(update, self.config.dropout)
        if self.training and self.config.stochastic_depth:
            update = _drop_rows(update, self.config.stochastic_depth)
        if self.gate is not None:
            update = update * torch.sigmoid(self.gate(inputs)).mean(dim=-2, keepdim=True)
        return update


def _drop_rows(values: Tensor, probability: float) -> Tensor:
    """Set whole rows ``[..., seq, hidden]`` to zero and scale the others (Huang et al. 2016, stochastic depth)."""
    share = torch.full((*values.shape[:-2], 1, 1), 1 - probability, dtype=values.dtype, device=values.device)
    kept = torch.bernoulli(share)
    return values * kept / (1 - probability)


def _bert(down: Tensor, up: Tensor, generator: torch.Generator | None) -> None:
    nn.init.normal_(down, std=0.02, generator=generator)
    nn.init.normal_(up, std=0.02, generator=generator)


def _mam_adapter(down: Tensor, up: Tensor, generator: torch.Generator | None) -> None:
    nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
    nn.init.zeros_(up)


def _houlsby(down: Tensor, up: Tensor, generator: torch.Generator | None) -> None:
    nn.init.trunc_normal_(down, std=0.01, a=-0.02, b=0.02, generator=generator)
    nn.init.trunc_normal_(up, std=0.01, a=-0.02, b=0.02, generator=generator)


_INITIALISATIONS = {"bert": _bert, "mam_adapter": _mam_adapter, "houlsby": _houlsby}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


register(
    BottleneckConfig,
    {
        "seq_bn": SeqBnConfig(),
        "pfeiffer": SeqBnConfig(),
        "double_seq_bn": DoubleSeqBnConfig(),
        "houlsby": DoubleSeqBnConfig(),
        "seq_bn_inv": SeqBnInvConfig(),
        "pfeiffer+inv": SeqBnInvConfig(),
        "double_seq_bn_inv": DoubleSeqBnInvConfig(),
        "houlsby+inv": DoubleSeqBnInvConfig(),
        "houlsby_2019": Houlsby2019Config(),
        "par_bn": ParBnConfig(),
        "parallel": ParBnConfig(),
        "scaled_par_bn": ParBnConfig(scaling="learned"),
        "scaled_parallel": ParBnConfig(scaling="learned"),
        "compacter": CompacterConfig(),
        "compacter++": CompacterPlusPlusConfig(),
        "adapter_plus": AdapterPlusConfig(),
    },
)

# Names that scripts for earlier libraries use.
BnConfig = BottleneckConfig
PfeifferConfig = SeqBnConfig
HoulsbyConfig = DoubleSeqBnConfig
PfeifferInvConfig = SeqBnInvConfig
HoulsbyInvConfig = DoubleSeqBnInvConfig
ParallelConfig = ParBnConfig
