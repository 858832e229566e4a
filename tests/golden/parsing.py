"""Writes ``parsing/``: what the parsing head of ``adapters`` 1.3.0 computes.

Runs in the environment of the peers: ``.venv-peers/bin/python tests/golden/parsing.py``.
"""

from pathlib import Path

import adapters
import torch
import transformers as tf
from safetensors.torch import save_file

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10, "vocab_size": 30}


def main() -> None:
    torch.manual_seed(0)
    model = adapters.BertAdapterModel(tf.BertConfig(**TINY)).eval()
    model.add_dependency_parsing_head("tree", num_labels=3)
    model.eval()
    head = model.heads["tree"]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.3)
    here = Path(__file__).parent
    model.save_head(here / "parsing", "tree", use_safetensors=True)
    hidden = torch.randn(2, 7, 8)
    starts = torch.tensor([[1, 2, 4, 6, 0, 0, 0], [1, 4, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        outputs = head((hidden,), word_starts=starts)
    tensors = {f"head/{name}": value for name, value in head.state_dict().items()}
    tensors |= {"hidden": hidden, "word_starts": starts, "rel_preds": outputs[0], "arc_preds": outputs[1]}
    save_file({name: value.contiguous() for name, value in tensors.items()}, here / "parsing" / "expected.safetensors")


if __name__ == "__main__":
    main()
