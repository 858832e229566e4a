"""Several methods as one adapter: MAM (He et al. 2021), UniPELT (Mao et al. 2022), or any other union."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Modules, Place
from adapterhub.methods.bottleneck import BottleneckConfig, ParBnConfig, SeqBnConfig
from adapterhub.methods.lora import LoRAConfig
from adapterhub.methods.prefix import PrefixTuningConfig
from adapterhub.methods.registry import load_config, register


@dataclass(frozen=True, eq=False, init=False)
class ConfigUnion(AdapterConfig):
    """The union of some configurations: each acts where it acts alone, one after another where they meet.

    ``ConfigUnion("prefix_tuning", LoRAConfig(r=4))``; as a text ``"prefix_tuning[flat=True]|lora[r=4]"``.

    Raises:
        ConfigError: for no configuration at all, or a union in a union.
    """

    method: ClassVar[str] = "union"

    configs: tuple[AdapterConfig, ...]

    def __init__(self, *configs: "AdapterConfig | str | Mapping[str, Any]", **named: Any) -> None:
        given = configs or tuple(named.get("configs", ()))
        loaded = tuple(load_config(config) for config in given)
        if not loaded or any(isinstance(config, ConfigUnion) for config in loaded):
            raise ConfigError("a union is of at least one configuration, none of them a union itself")
        object.__setattr__(self, "configs", loaded)

    def check(self, places: Sequence[Place]) -> None:
        for config in self.configs:
            config.check(places)

    def resolved(self, places: Sequence[Place]) -> Self:
        return self.from_dict({"configs": [config.resolved(places) for config in self.configs]})

    def modules(self, places: Sequence[Place]) -> Modules:
        members = tuple(config.modules(places) for config in self.configs)
        if not all(member.parts for member in members):
            idle = [config.method for config, member in zip(self.configs, members, strict=True) if not member.parts]
            raise ConfigError(f"{', '.join(idle)} of this union would act nowhere in this model")
        return Modules({}, members=members)

    def build(self, place: Place) -> nn.Module | None:
        raise ConfigError("the parts of a union are built by its configurations, for all places of a model at once")

    @classmethod
    def _check_names(cls, given: Mapping[str, Any]) -> None:
        if list(given) != ["configs"]:
            raise ConfigError(f"a union has its configs alone, not {', '.join(given) or 'nothing'}")

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "configs": [config.to_dict() for config in self.configs]}

    def leaving_out(self, layers: Iterable[int | str]) -> Self:
        given = tuple(layers)
        return self.from_dict({"configs": [config.leaving_out(given) for config in self.configs]})

    def replace(self, **changes: Any) -> Self:
        """A copy in which every configuration that has one of these fields has it changed.

        Raises:
            ConfigError: for a field that none of them has.
        """
        unknown = [name for name in changes if not any(name in config.to_dict() for config in self.configs)]
        if unknown:
            raise ConfigError(f"no part of this union has an option {', '.join(unknown)}")
        changed = [
            config.replace(**{name: value for name, value in changes.items() if name in config.to_dict()})
            for config in self.configs
        ]
        return self.from_dict({"configs": changed})


class MAMConfig(ConfigUnion):
    """Mix-and-match: a prefix at attention and a parallel adapter at the feed-forward (He et al. 2021, section 4.6)."""

    def __init__(
        self, prefix_tuning: PrefixTuningConfig | None = None, adapter: BottleneckConfig | None = None, **named: Any
    ) -> None:
        parts = (prefix_tuning or PrefixTuningConfig(bottleneck_size=800), adapter or ParBnConfig())
        super().__init__(*named.get("configs", parts))


class UniPELTConfig(ConfigUnion):
    """A prefix, an adapter and LoRA, each with gates that learn how much of it to use (Mao et al. 2022)."""

    def __init__(
        self,
        prefix_tuning: PrefixTuningConfig | None = None,
        adapter: BottleneckConfig | None = None,
        lora: LoRAConfig | None = None,
        use_gating: bool = True,
        **named: Any,
    ) -> None:
        parts = (
            prefix_tuning or PrefixTuningConfig(prefix_length=10),
            adapter or SeqBnConfig(reduction_factor=16),
            lora or LoRAConfig(r=8, alpha=2),
        )
        super().__init__(*named.get("configs", [part.replace(use_gating=use_gating) for part in parts]))


register(ConfigUnion, {"mam": MAMConfig(), "unipelt": UniPELTConfig()})
