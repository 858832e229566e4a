"""What a module of a transformer is for, by its path, and how wide it is, by the configuration of the model."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from adapterhub.hub.bases import Base


class Family(NamedTuple):
    """Architectures whose layers have modules of the same names: their model types, and how projections are called."""

    types: frozenset[str]
    projections: frozenset[str]


def _family(types: str, projections: str) -> Family:
    return Family(frozenset(types.split()), frozenset(projections.split()))


# Those of which the widths below hold.
FAMILIES = (
    _family(
        "bert roberta xlm-roberta camembert electra data2vec-text ernie esm layoutlm megatron-bert rembert roc_bert "
        "roberta-prelayernorm roformer splinter xlm-roberta-xl big_bird bert-generation nystromformer yoso",
        "query key value dense",
    ),
    _family(
        "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text granite olmo olmo2 olmo3 cohere cohere2 smollm3 stablelm "
        "helium exaone4 seed_oss ministral ministral3 hunyuan_v1_dense ernie4_5 bitnet vaultgemma eurobert",
        "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj",
    ),
    _family(
        "bart mbart blenderbot blenderbot-small fsmt m2m_100 marian mvp pegasus pegasus_x plbart whisper",
        "q_proj k_proj v_proj out_proj fc1 fc2",
    ),
    _family("opt xglm biogpt", "q_proj k_proj v_proj out_proj fc1 fc2"),
    _family("gpt2 openai-gpt gpt_bigcode", "c_attn c_proj c_fc"),
    _family("t5 mt5 umt5", "q k v o wi wi_0 wi_1 wo"),
    _family("bloom falcon", "query_key_value dense dense_h_to_4h dense_4h_to_h"),
    _family("gpt_neox gpt_neox_japanese", "query_key_value dense dense_h_to_4h dense_4h_to_h"),
    _family("flaubert xlm", "q_lin k_lin v_lin out_lin lin1 lin2"),
    _family("albert", "query key value dense ffn ffn_output"),
    _family("deberta", "in_proj dense"),
    _family("deberta-v2", "query_proj key_proj value_proj dense"),
    _family("distilbert", "q_lin k_lin v_lin out_lin lin1 lin2"),
    _family("gptj", "q_proj k_proj v_proj out_proj fc_in fc_out"),
    _family("gpt_neo", "q_proj k_proj v_proj out_proj c_fc c_proj"),
    _family("modernbert", "wqkv wi wo"),
    _family("mpnet", "q k v o dense"),
    _family("nemotron", "q_proj k_proj v_proj o_proj up_proj down_proj"),
    _family("phi", "q_proj k_proj v_proj dense fc1 fc2"),
    _family("phi3", "qkv_proj o_proj gate_up_proj down_proj"),
)
# The native format has these for every architecture.
_SITES = frozenset({"q", "k", "v", "qkv", "o", "up", "gate", "gate_up", "down"})
_ELSEWHERE = re.compile("vision|visual|audio|pooler|classifier|lm_head|predictions|conv|position|relative|adapter")
_ROLES = (  # the first that matches the whole path, in small letters, wins
    ("q", r"(.*\.)?(q|query|q_proj|query_proj|q_lin)"),
    ("k", r"(.*\.)?(k|key|k_proj|key_proj|k_lin)"),
    ("v", r"(.*\.)?(v|value|v_proj|value_proj|v_lin)"),
    ("qkv", r"(.*\.)?(qkv|qkv_proj|query_key_value|wqkv)|.*attn\.c_attn|.*attention\.self\.in_proj"),
    ("o", r"o|(.*\.)?(o_proj|out_lin)|.*(attention|attn)\.(o|wo|out_proj|c_proj|dense|output\.dense)"),
    ("gate_up", r"(.*\.)?(gate_up|gate_up_proj|mlp\.wi)"),
    ("gate", r"(.*\.)?(gate|gate_proj)"),
    ("up", r"(.*\.)?(up|up_proj|fc1|fc_in|lin1|dense_h_to_4h|intermediate\.dense|mlp\.c_fc)"),
    ("up", r".*densereludense\.wi(_[01])?|.*\.ffn"),
    ("down", r"(.*\.)?(down|down_proj|fc2|fc_out|lin2|dense_4h_to_h|mlp\.c_proj|mlp\.wo)"),
    ("down", r".*densereludense\.wo|.*\.ffn_output|.*\.layers?\.\d+\.output\.dense"),
    ("embeddings", r"(.*\.)?(word_embeddings|embed_tokens|wte|shared|tok_embeddings|tokens_embed|embed_in|embeddings)"),
    ("prompt", r"prompt_embeddings|prompt"),
    ("output", r"(.*\.)?(attention|cross_attention|feed_forward|output|residual)"),
)
NAMES: Mapping[str, str] = {
    "q": "query projection",
    "k": "key projection",
    "v": "value projection",
    "qkv": "projection of queries, keys and values",
    "o": "output projection of the attention",
    "gate_up": "gate and up projection of the feed-forward",
    "gate": "gate projection of the feed-forward",
    "up": "up projection of the feed-forward",
    "down": "down projection of the feed-forward",
    "embeddings": "embedding of the tokens",
    "prompt": "prompt",
    "output": "output",
}


def role_of(path: str) -> str | None:
    """The role of a module, or None where its name does not tell: ``roberta.encoder.layer.3.attention.self.query``."""
    path = path.lower()
    if _ELSEWHERE.search(path):
        return None
    return next((role for role, pattern in _ROLES if re.fullmatch(pattern, path)), None)


def widths(role: str, base: "Base") -> tuple[int | None, int | None]:
    """How many values a module of this role takes and gives in ``base``; None where that is not known."""
    if base.model_type is not None and family_of(base.model_type) is None:
        return None, None
    hidden, inner = base.hidden_size, base.intermediate_size
    queries = _product(base.heads, base.head_dim)
    keys = _product(base.kv_heads, base.head_dim)
    table = {
        "q": (hidden, queries),
        "k": (hidden, keys),
        "v": (hidden, keys),
        "qkv": (hidden, None if queries is None or keys is None else queries + 2 * keys),
        "o": (queries, hidden),
        "gate_up": (hidden, _product(2, inner)),
        "gate": (hidden, inner),
        "up": (hidden, inner),
        "down": (inner, hidden),
        "embeddings": (base.vocab_size, base.embedding_size),
        "prompt": (None, base.embedding_size),
        "output": (hidden, hidden),
    }
    return table[role]


def _product(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one * other


def family_of(model_type: str) -> Family | None:
    """The family of ``model_type``, or None where it is not known."""
    return next((family for family in FAMILIES if model_type in family.types), None)


def lacks(base: "Base", path: str) -> bool:
    """Whether ``base`` surely has no projection of the name that the last part of ``path`` is."""
    name = path.lower().rpartition(".")[2]
    family = None if base.model_type is None else family_of(base.model_type)
    is_projection = role_of(path) not in (None, "embeddings", "prompt", "output")
    return family is not None and is_projection and name not in family.projections | _SITES
