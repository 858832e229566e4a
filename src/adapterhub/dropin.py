"""Names of ``adapters`` that are other names of things here, or small things that its scripts use."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_MAPPING

from adapterhub.classes import flexible_class
from adapterhub.composition import Composition
from adapterhub.heads import DependencyParsingHead, MaskedLMHead, MultiLabelHead
from adapterhub.hub.client.catalogue import Listing
from adapterhub.methods import DEFAULT_CONFIG, AdapterConfig, load_config, named_configs
from adapterhub.methods.fusion import DynamicAdapterFusionConfig, StaticAdapterFusionConfig
from adapterhub.methods.union import ConfigUnion
from adapterhub.model import AdapterMixin
from adapterhub.model.embeddings import EmbeddingsMixin
from adapterhub.model.flexible import FlexibleAdapterMixin
from adapterhub.model.inspecting import InspectingMixin

ADAPTER_CONFIG_MAP = named_configs()
ADAPTERFUSION_CONFIG_MAP = {"static": StaticAdapterFusionConfig(), "dynamic": DynamicAdapterFusionConfig()}
DEFAULT_ADAPTER_CONFIG = DEFAULT_CONFIG
DEFAULT_ADAPTERFUSION_CONFIG = "dynamic"

AdapterCompositionBlock = Composition
ModelAdaptersMixin = ModelWithHeadsAdaptersMixin = AdapterMixin
ModelWithFlexibleHeadsAdaptersMixin = FlexibleAdapterMixin
EmbeddingAdaptersMixin = EmbeddingsMixin
AdapterInfo = Listing
BertStyleMaskedLMHead = MaskedLMHead
BiaffineParsingHead = DependencyParsingHead
MultiLabelClassificationHead = MultiLabelHead
InvertibleAdaptersMixin = InvertibleAdaptersWrapperMixin = InspectingMixin


class AdapterMethod(StrEnum):
    """Kinds of methods, as ``supports_adapter`` takes them."""

    bottleneck = "bottleneck"
    prefix_tuning = "prefix_tuning"
    lora = "lora"
    prompt_tuning = "prompt_tuning"
    reft = "reft"
    invertible = "invertible"

    @staticmethod
    def get_from_config(config: "AdapterConfig | str | Mapping[str, Any]") -> list[str]:
        """The kinds that a configuration is of: several for a union, or with invertible modules."""
        loaded = load_config(config)
        if isinstance(loaded, ConfigUnion):
            return [kind for part in loaded.configs for kind in AdapterMethod.get_from_config(part)]
        kinds = [str(AdapterMethod.invertible)] if loaded.get("inv_adapter") else []
        return [*kinds, _KINDS.get(loaded.method, loaded.method)]


_KINDS = {"vera": "lora", "ia3": "lora"}


class _AdapterModels(Mapping[type, type]):
    """Of every configuration class of transformers the class of models with adapters and flexible heads."""

    def __getitem__(self, config_class: type) -> type:
        found: Any = MODEL_MAPPING[config_class]
        return flexible_class(found[0] if isinstance(found, tuple) else found)

    def __iter__(self) -> Iterator[type]:
        return iter(MODEL_MAPPING.keys())

    def __len__(self) -> int:
        return len(MODEL_MAPPING)


ADAPTER_MODEL_MAPPING = _AdapterModels()
