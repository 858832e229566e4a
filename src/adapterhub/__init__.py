"""Adapters for any Hugging Face transformer: small trained parts stitched into a frozen base model.

Two lines make a model ready and train an adapter::

    model = adapterhub.AutoAdapterModel.from_pretrained("roberta-base")
    model.add_adapter("sst-2"); model.train_adapter("sst-2")

Names are loaded when they are first used. Beside those listed in ``__all__`` there is an ``AutoModelForX`` for every
one of transformers, and an ``XAdapterModel`` (formerly ``XModelWithHeads``) for every X of which transformers has
``XModel``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ADAPTER_CONFIG_MAP": "dropin",
    "ADAPTER_MODEL_MAPPING": "dropin",
    "AdapterArguments": "training.arguments",
    "AdapterCompositionBlock": "dropin",
    "AdapterConfig": "methods",
    "ADAPTERFUSION_CONFIG_MAP": "dropin",
    "AdapterFusionConfig": "methods.fusion",
    "AdapterInfo": "dropin",
    "AdapterMethod": "dropin",
    "AdapterModelInterface": "sites",
    "AdapterPlusConfig": "methods.bottleneck",
    "AdapterPool": "pool",
    "AdapterSetup": "engine",
    "AdapterTrainer": "training.trainer",
    "AdapterTrainerCallback": "training.arguments",
    "AdapterType": "model",
    "AutoAdapterModel": "auto",
    "AutoModelWithHeads": "auto",
    "Average": "composition",
    "BatchSplit": "composition",
    "BertStyleMaskedLMHead": "dropin",
    "BiaffineParsingHead": "dropin",
    "BitFitConfig": "methods.bitfit",
    "BnConfig": "methods.bottleneck",
    "BottleneckConfig": "methods.bottleneck",
    "CausalLMHead": "heads",
    "ClassificationHead": "heads",
    "CompacterConfig": "methods.bottleneck",
    "CompacterPlusPlusConfig": "methods.bottleneck",
    "compare": "training.compare",
    "Composition": "composition",
    "ConfigUnion": "methods.union",
    "DEFAULT_ADAPTER_CONFIG": "dropin",
    "DEFAULT_ADAPTERFUSION_CONFIG": "dropin",
    "DependencyParsingOutput": "heads",
    "DiReftConfig": "methods.reft",
    "DoRAConfig": "methods.lora",
    "DoubleSeqBnConfig": "methods.bottleneck",
    "DoubleSeqBnInvConfig": "methods.bottleneck",
    "DvoRAConfig": "methods.vera",
    "DynamicAdapterFusionConfig": "methods.fusion",
    "EmbeddingAdaptersMixin": "dropin",
    "Fuse": "composition",
    "get_adapter_config_hash": "methods",
    "get_adapter_info": "hub.client.catalogue",
    "Houlsby2019Config": "methods.bottleneck",
    "HoulsbyConfig": "methods.bottleneck",
    "HoulsbyInvConfig": "methods.bottleneck",
    "IA3Config": "methods.ia3",
    "ImageClassificationHead": "heads",
    "init": "auto",
    "InvertibleAdaptersMixin": "dropin",
    "InvertibleAdaptersWrapperMixin": "dropin",
    "LayerNormConfig": "methods.layer_norm",
    "LadderConfig": "methods.ladder",
    "LHUCConfig": "methods.lhuc",
    "list_adapters": "hub.client.catalogue",
    "load_adapter": "loading",
    "load_config": "methods",
    "load_model": "auto",
    "login": "hub.client.account",
    "logout": "hub.client.account",
    "LoRAConfig": "methods.lora",
    "LoReftConfig": "methods.reft",
    "MAMConfig": "methods.union",
    "ModelAdaptersConfig": "model.configurations",
    "ModelAdaptersMixin": "dropin",
    "ModelWithFlexibleHeadsAdaptersMixin": "dropin",
    "ModelWithHeadsAdaptersMixin": "dropin",
    "MTLLoRAConfig": "methods.mtl_lora",
    "MultiHeadOutput": "heads",
    "MultiLabelClassificationHead": "dropin",
    "MultipleChoiceHead": "heads",
    "MultiTask": "composition",
    "named_configs": "methods",
    "NoReftConfig": "methods.reft",
    "Parallel": "composition",
    "ParallelConfig": "methods.bottleneck",
    "ParBnConfig": "methods.bottleneck",
    "parse_composition": "composition",
    "PfeifferConfig": "methods.bottleneck",
    "PfeifferInvConfig": "methods.bottleneck",
    "PredictionHead": "heads",
    "Predictor": "inference",
    "PrefixTuningConfig": "methods.prefix",
    "PromptTuningConfig": "methods.prompt",
    "QuestionAnsweringHead": "heads",
    "pull": "hub.client.pulling",
    "push": "hub.client.pushing",
    "ReftConfig": "methods.reft",
    "Rows": "composition",
    "Seq2SeqAdapterTrainer": "training.trainer",
    "Seq2SeqLMHead": "heads",
    "SeqBnConfig": "methods.bottleneck",
    "SeqBnInvConfig": "methods.bottleneck",
    "setup_adapter_training": "training.arguments",
    "Sites": "sites",
    "sites": "sites",
    "Split": "composition",
    "Stack": "composition",
    "StaticAdapterFusionConfig": "methods.fusion",
    "TaggingHead": "heads",
    "train_many": "training.many",
    "Trunk": "engine",
    "TrunkCache": "training.trunk_cache",
    "UniPELTConfig": "methods.union",
    "validate_composition": "composition",
    "VeraConfig": "methods.vera",
}

if TYPE_CHECKING:
    from adapterhub import sites
    from adapterhub.auto import AutoAdapterModel, AutoModelWithHeads, init, load_model
    from adapterhub.composition import (
        Average,
        BatchSplit,
        Composition,
        Fuse,
        MultiTask,
        Parallel,
        Rows,
        Split,
        Stack,
        parse_composition,
        validate_composition,
    )
    from adapterhub.dropin import (
        ADAPTER_CONFIG_MAP,
        ADAPTER_MODEL_MAPPING,
        ADAPTERFUSION_CONFIG_MAP,
        DEFAULT_ADAPTER_CONFIG,
        DEFAULT_ADAPTERFUSION_CONFIG,
        AdapterCompositionBlock,
        AdapterInfo,
        AdapterMethod,
        BertStyleMaskedLMHead,
        BiaffineParsingHead,
        EmbeddingAdaptersMixin,
        InvertibleAdaptersMixin,
        InvertibleAdaptersWrapperMixin,
        ModelAdaptersMixin,
        ModelWithFlexibleHeadsAdaptersMixin,
        ModelWithHeadsAdaptersMixin,
        MultiLabelClassificationHead,
    )
    from adapterhub.engine import AdapterSetup, Trunk
    from adapterhub.heads import (
        CausalLMHead,
        ClassificationHead,
        DependencyParsingOutput,
        ImageClassificationHead,
        MultiHeadOutput,
        MultipleChoiceHead,
        PredictionHead,
        QuestionAnsweringHead,
        Seq2SeqLMHead,
        TaggingHead,
    )
    from adapterhub.hub.client.account import login, logout
    from adapterhub.hub.client.catalogue import get_adapter_info, list_adapters
    from adapterhub.hub.client.pulling import pull
    from adapterhub.hub.client.pushing import push
    from adapterhub.inference import Predictor
    from adapterhub.loading import load_adapter
    from adapterhub.methods import AdapterConfig, get_adapter_config_hash, load_config, named_configs
    from adapterhub.methods.bitfit import BitFitConfig
    from adapterhub.methods.bottleneck import (
        AdapterPlusConfig,
        BnConfig,
        BottleneckConfig,
        CompacterConfig,
        CompacterPlusPlusConfig,
        DoubleSeqBnConfig,
        DoubleSeqBnInvConfig,
        Houlsby2019Config,
        HoulsbyConfig,
        HoulsbyInvConfig,
        ParallelConfig,
        ParBnConfig,
        PfeifferConfig,
        PfeifferInvConfig,
        SeqBnConfig,
        SeqBnInvConfig,
    )
    from adapterhub.methods.fusion import AdapterFusionConfig, DynamicAdapterFusionConfig, StaticAdapterFusionConfig
    from adapterhub.methods.ia3 import IA3Config
    from adapterhub.methods.ladder import LadderConfig
    from adapterhub.methods.layer_norm import LayerNormConfig
    from adapterhub.methods.lhuc import LHUCConfig
    from adapterhub.methods.lora import DoRAConfig, LoRAConfig
    from adapterhub.methods.mtl_lora import MTLLoRAConfig
    from adapterhub.methods.prefix import PrefixTuningConfig
    from adapterhub.methods.prompt import PromptTuningConfig
    from adapterhub.methods.reft import DiReftConfig, LoReftConfig, NoReftConfig, ReftConfig
    from adapterhub.methods.union import ConfigUnion, MAMConfig, UniPELTConfig
    from adapterhub.methods.vera import DvoRAConfig, VeraConfig
    from adapterhub.model import AdapterType
    from adapterhub.model.configurations import ModelAdaptersConfig
    from adapterhub.pool import AdapterPool
    from adapterhub.sites import AdapterModelInterface, Sites
    from adapterhub.training.arguments import AdapterArguments, AdapterTrainerCallback, setup_adapter_training
    from adapterhub.training.compare import compare
    from adapterhub.training.many import train_many
    from adapterhub.training.trainer import AdapterTrainer, Seq2SeqAdapterTrainer
    from adapterhub.training.trunk_cache import TrunkCache

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module = import_module(f"adapterhub.{_HOMES[name]}")
        value = module if name == _HOMES[name] else getattr(module, name)
    elif name.startswith("AutoModel") or name.endswith(("AdapterModel", "ModelWithHeads")):
        value = import_module("adapterhub.auto").model_class(name)
    else:
        value = None
    if value is None:
        raise AttributeError(f"module 'adapterhub' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
