"""Tiny models of `adapters` with random weights, and what the checks do with them."""

import adapters
import torch
import transformers as tf

CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
IDS = torch.randint(3, 59, (2, 6), generator=torch.Generator().manual_seed(3))


def shaken(made):
    """The model with random values added everywhere: norms and biases of 1 and 0 would hide mistakes."""
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def model(*names: str, config: object = "seq_bn", heads: bool = False):
    """A BERT with an adapter of each name."""
    torch.manual_seed(0)
    made = tf.BertModel(tf.BertConfig(**CONFIG)) if not heads else adapters.BertAdapterModel(tf.BertConfig(**CONFIG))
    if not heads:
        adapters.init(made)
    for name in names:
        made.add_adapter(name, config=config)
    return shaken(made)


def bottleneck(**options: object) -> adapters.BnConfig:
    return adapters.BnConfig(
        **{"mh_adapter": False, "output_adapter": True, "reduction_factor": 2, "non_linearity": "relu", **options}
    )


def run(made, setup) -> torch.Tensor:
    made.set_active_adapters(setup)
    with torch.no_grad():
        return made(IDS).last_hidden_state


def difference(one: torch.Tensor, other: torch.Tensor) -> str:
    return f"{float((one - other).abs().max()):.1e}"


def tried(what: str, call) -> str:
    """What comes of a call: its answer, or the error."""
    try:
        return f"{what}: {call()}"
    except Exception as error:
        return f"{what}: {type(error).__name__}: {str(error).strip()[:100]}".replace("\n", " ")
