"""Writes ``static/``: heads of classes of transformers as ``adapters`` 1.3.0 saves them, and what they give.

Runs in the environment of the peers: ``.venv-peers/bin/python tests/golden/static_heads.py``.
"""

from pathlib import Path

import adapters
import torch
import transformers as tf
from safetensors.torch import save_file

BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 30,
    "max_position_embeddings": 20,
}
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20, "vocab_size": 30}
CLASSES = {
    "BertForSequenceClassification": (tf.BertConfig, BERT | {"num_labels": 3}),
    "RobertaForTokenClassification": (tf.RobertaConfig, BERT | {"num_labels": 3}),
    "GPT2ForSequenceClassification": (tf.GPT2Config, GPT2 | {"num_labels": 2, "pad_token_id": 0}),
    "BertForMaskedLM": (tf.BertConfig, BERT),
}


def main() -> None:
    for name, (config, values) in CLASSES.items():
        torch.manual_seed(0)
        model = getattr(tf, name)(config(**values)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        folder = Path(__file__).parent / "static" / name
        folder.mkdir(parents=True, exist_ok=True)
        adapters.init(model)
        model.add_adapter("a")
        model.set_active_adapters("a")
        # The head of a masked-language model cannot be saved as safetensors: two of its names share a tensor.
        model.save_adapter(folder, "a", use_safetensors=name != "BertForMaskedLM")
        ids = torch.tensor([[4, 5, 6, 7], [9, 8, 7, 6]])
        with torch.no_grad():
            logits = model(ids).logits
        base = {f"base/{key}": value for key, value in model.base_model.state_dict().items() if "adapter" not in key}
        save_file(
            {"ids": ids, "logits": logits} | {k: v.clone() for k, v in base.items()}, folder / "expected.safetensors"
        )


if __name__ == "__main__":
    main()
