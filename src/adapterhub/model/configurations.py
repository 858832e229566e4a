"""The configurations of a model's adapters and fusions, as a script reads them: ``model.adapters_config``."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapterhub.composition import Composition
from adapterhub.errors import ConfigError
from adapterhub.methods import AdapterConfig, get_adapter_config_hash, load_config
from adapterhub.methods.fusion import AdapterFusionConfig
from adapterhub.methods.union import ConfigUnion

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin


@dataclass(frozen=True)
class ModelAdaptersConfig(Collection[str]):
    """Names of adapters, each with its configuration; of fusions, each with its own and the names of its adapters.

    ``adapterhub.init(model, adapters_config=...)`` adds all of them to a model. ``model.adapters_config`` is how things
    are at that moment; changing them is up to the methods of the model.
    """

    configs: Mapping[str, AdapterConfig] = field(default_factory=dict)
    fusion_configs: Mapping[str, tuple[AdapterFusionConfig, tuple[str, ...]]] = field(default_factory=dict)
    active_setup: Composition | None = None
    skip_layers: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: "AdapterMixin") -> "ModelAdaptersConfig":
        """Those of a model, and its active setup."""
        plan = model.engine.active
        return cls(
            {name: adapter.config for name, adapter in model.adapters.items()},
            {name: (fusion.config, fusion.adapter_names) for name, fusion in model.fusions.items()},
            model.active_adapters,
            tuple(sorted(plan.skip_layers)) if plan else (),
        )

    def __contains__(self, name: object) -> bool:
        return name in self.configs

    def __iter__(self) -> Iterator[str]:
        return iter(self.configs)

    def __len__(self) -> int:
        return len(self.configs)

    @property
    def adapters(self) -> dict[str, str]:
        """Every adapter by name, with the digest under which ``config_map`` has its configuration."""
        return {name: get_adapter_config_hash(config) for name, config in self.configs.items()}

    @property
    def config_map(self) -> dict[str, AdapterConfig]:
        """Every configuration by its digest."""
        return {get_adapter_config_hash(config): config for config in self.configs.values()}

    @property
    def fusions(self) -> dict[str, list[str]]:
        """Every fusion by name, with the names of its adapters."""
        return {name: list(adapters) for name, (_, adapters) in self.fusion_configs.items()}

    def get(self, adapter_name: str) -> AdapterConfig | None:
        """The configuration of an adapter, or None if there is none of that name."""
        return self.configs.get(adapter_name)

    def match(
        self,
        adapter_name: str,
        config_type: type[AdapterConfig],
        layer_idx: int | None = None,
        location_key: str | None = None,
    ) -> AdapterConfig | None:
        """The configuration of an adapter if it is of a kind and acts in a layer and at a location, else None.

        ``location_key`` is an option that is true there (``"output_adapter"``). Of a union, the one part that fits.

        Raises:
            ConfigError: if several parts of a union fit.
        """
        config = self.get(adapter_name)
        parts = config.configs if isinstance(config, ConfigUnion) and config_type is not ConfigUnion else (config,)
        found = [
            part
            for part in parts
            if isinstance(part, config_type)
            and (layer_idx is None or layer_idx not in (part.get("leave_out") or ()))
            and (location_key is None or part.get(location_key, False))
        ]
        if len(found) > 1:
            raise ConfigError(f"{len(found)} parts of adapter {adapter_name!r} are {config_type.__name__}s")
        return found[0] if found else None

    def get_fusion(self, fusion_name: str | Iterable[str]) -> tuple[AdapterFusionConfig, list[str]] | tuple[None, None]:
        """The configuration of a fusion and the names of its adapters; None twice if there is no such fusion."""
        name = fusion_name if isinstance(fusion_name, str) else ",".join(fusion_name)
        if name not in self.fusion_configs:
            return None, None
        config, adapters = self.fusion_configs[name]
        return config, list(adapters)

    def common_config_value(self, adapter_names: Iterable[str], attribute: str) -> Any:
        """The value that an option has in all of some adapters.

        Raises:
            ConfigError: if it has several.
        """
        configs = [self.get(name) for name in adapter_names]
        values = [None if config is None else config.get(attribute) for config in configs]
        if any(value != values[0] for value in values):
            raise ConfigError(f"{attribute} is not the same in {', '.join(adapter_names)}: {values}")
        return values[0] if values else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` is the way back."""
        return {
            "adapters": {name: config.to_dict() for name, config in self.configs.items()},
            "fusions": {
                name: {"config": config.to_dict(), "adapter_names": list(adapters)}
                for name, (config, adapters) in self.fusion_configs.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelAdaptersConfig":
        """What ``to_dict`` gave; or names of adapters alone, each with its configuration.

        Raises:
            ConfigError: for an unknown configuration.
        """
        fusions = values.get("fusions", {}) if "adapters" in values else {}
        return cls(
            {name: load_config(config) for name, config in values.get("adapters", values).items()},
            {
                name: (AdapterFusionConfig.from_dict(one["config"]), tuple(one["adapter_names"]))
                for name, one in fusions.items()
            },
        )
