"""Base models, as far as something is known of them: a name, a configuration, a fingerprint, what they were made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from adapterhub.errors import ConfigError
from adapterhub.fingerprint import Fingerprint

# Who has the models on the Hugging Face Hub that had no owner in their names before.
_FORMERLY_UNOWNED = frozenset(
    {"albert", "distilbert", "facebookai", "google-bert", "google-t5", "openai-community", "transfo-xl", "xlnet"}
)
_INNER = ("text_config", "llm_config", "language_config")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "d_model", "n_embd", "dim", "emb_dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers"),
    "decoder_layers": ("num_decoder_layers", "decoder_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads", "attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_dim": ("head_dim", "d_kv", "kv_channels"),
    "intermediate_size": ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "hidden_dim", "n_inner"),
    "embedding_size": ("embedding_size", "input_embedding_size", "word_embed_proj_dim", "d_embed"),
    "vocab_size": ("vocab_size", "n_words", "padded_vocab_size"),
}
# Where one of these is set, attention has other shapes than heads times width, or not in every layer.
_UNUSUAL_ATTENTION = (
    "kv_lora_rank", "q_lora_rank", "attn_output_gate", "linear_num_value_heads", "global_head_dim", "v_head_dim",
    "qk_nope_head_dim", "multi_query", "new_decoder_architecture",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What a model was made of: its name, and how (``finetune``, ``quantized``, ``merge``), as cards declare it."""

    name: str
    relation: str


@dataclass(frozen=True)
class Base:
    """What is known of a base model; None is unknown.

    Attributes:
        names: its own first, then those that it goes by as well.
        revision: the commit of these weights.
        fingerprint: of these weights.
        layers: in all, of encoder and decoder together.
        decoder_layers: of the decoder alone, where there is an encoder too.
        quantised: whether its weights are packed in few bits.
        lineage: what it was made of, and that of what, and so on; the closest first.
    """

    names: tuple[str, ...] = ()
    revision: str | None = None
    fingerprint: Fingerprint | None = None
    model_type: str | None = None
    hidden_size: int | None = None
    layers: int | None = None
    decoder_layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    embedding_size: int | None = None
    vocab_size: int | None = None
    quantised: bool = False
    lineage: tuple[Origin, ...] = ()

    @classmethod
    def of_fingerprint(cls, fingerprint: Fingerprint, lineage: tuple[Origin, ...] = ()) -> Self:
        """What a fingerprint tells."""
        return cls(
            names=(fingerprint.name,) if fingerprint.name else (),
            revision=fingerprint.revision,
            fingerprint=fingerprint,
            model_type=fingerprint.model_type,
            hidden_size=fingerprint.hidden_size or None,
            layers=fingerprint.layers or None,
            vocab_size=fingerprint.vocab_size,
            lineage=lineage,
        )

    @classmethod
    def of_config(
        cls,
        config: Mapping[str, Any],
        names: tuple[str, ...] = (),
        revision: str | None = None,
        fingerprint: Fingerprint | None = None,
        lineage: tuple[Origin, ...] = (),
    ) -> Self:
        """What a ``config.json`` of transformers tells, of any architecture; of one with several towers that of text.

        A model that is not called as its configuration says (``_name_or_path``) counts as a fine-tune of that.

        Raises:
            ConfigError: if it is the configuration of no model.
        """
        text = next((inner for key in _INNER if isinstance(inner := config.get(key), Mapping)), config)
        facts = _completed({fact: _number(text, keys) for fact, keys in _NAMES.items()}, text)
        if text is not config:  # layers of other towers are not told
            facts |= {"layers": None, "decoder_layers": None}
        model_type = _text(config.get("model_type")) or _text(text.get("model_type"))
        if model_type is None and facts["hidden_size"] is None:
            raise ConfigError(
                "This is the configuration of no model: it has neither a model_type nor a hidden_size. Take the whole "
                "config.json of a model from its folder or its page on the Hugging Face Hub"
            )
        former = _text(config.get("_name_or_path"))
        if not lineage and former and canonical(former) not in {canonical(name) for name in names}:
            lineage = (Origin(former, "finetune"),)
        return cls(
            names=names,
            revision=revision,
            fingerprint=fingerprint,
            model_type=model_type,
            quantised=isinstance(config.get("quantization_config"), Mapping),
            lineage=lineage,
            **facts,
        )

    @property
    def deepest(self) -> int | None:
        """How many layers its longer stack has."""
        if self.layers is None or self.decoder_layers is None:
            return self.layers
        return max(self.decoder_layers, self.layers - self.decoder_layers)


def canonical(name: str) -> str:
    """One name for all that a model has on the Hugging Face Hub: ``roberta-base`` is ``FacebookAI/roberta-base``."""
    name = name.strip().rstrip("/").lower()
    owner, _, rest = name.rpartition("/")
    return rest if owner in _FORMERLY_UNOWNED else name


def is_public(name: str) -> bool:
    """Whether ``name`` may be one on a hub, and is no path on someone's machine."""
    return bool(name) and not name.startswith((".", "/", "~")) and "\\" not in name and name.count("/") < 2


def _completed(facts: dict[str, int | None], text: Mapping[str, Any]) -> dict[str, int | None]:
    """The facts with what follows from them: totals, and the defaults that every architecture shares."""
    hidden, heads = facts["hidden_size"], facts["heads"]
    if (groups := _number(text, ("num_hidden_groups",))) is not None:  # ALBERT's, of which each stands for many layers
        facts["layers"] = groups * (_number(text, ("inner_group_num",)) or 1)
    if not text.get("is_encoder_decoder"):
        facts["decoder_layers"] = None
    elif (encoder := facts["layers"]) is not None:
        decoder = facts["decoder_layers"] or encoder
        facts |= {"layers": encoder + decoder, "decoder_layers": decoder}
    facts["embedding_size"] = facts["embedding_size"] or hidden
    if any(text.get(key) not in (None, False) for key in _UNUSUAL_ATTENTION):
        return facts | {"heads": None, "kv_heads": None, "head_dim": None}
    if facts["head_dim"] is None and hidden and heads and hidden % heads == 0:
        facts["head_dim"] = hidden // heads
    if text.get("decoder_ffn_dim", facts["intermediate_size"]) != facts["intermediate_size"]:
        facts["intermediate_size"] = None
    if facts["kv_heads"] is None:
        facts["kv_heads"] = heads
    if facts["intermediate_size"] is None and hidden and text.get("n_inner", 0) is None:  # as GPT-2 writes it
        facts["intermediate_size"] = 4 * hidden
    return facts


def _number(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """The first of ``keys`` that is there, if it is one number for all layers."""
    value = next((config[key] for key in keys if config.get(key) is not None), None)
    return value if type(value) is int and value > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
