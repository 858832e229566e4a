"""What libraries over the stock client do with a hub; run in an environment that has them, it prints JSON.

Arguments: what to do, a scratch folder, and the name of the repository. The base model is a tiny one made here.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as tf

SCRATCH, ID = Path(sys.argv[2]), sys.argv[3]
INPUT = torch.arange(6).reshape(1, 6)
SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}


def base() -> tf.BertModel:
    torch.manual_seed(0)
    return tf.BertModel(tf.BertConfig(name_or_path="tests/tiny-bert", **SIZES)).eval()


@torch.no_grad()
def output(model: Any) -> list[float]:
    return [round(value, 5) for value in model(INPUT).last_hidden_state[0, :, 0].tolist()]


def shaken(model: Any) -> Any:
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def peft() -> Any:
    """An adapter goes to the hub and comes back by its name."""
    from peft import LoraConfig, PeftModel, get_peft_model

    model = shaken(get_peft_model(base(), LoraConfig(target_modules=["query", "value"], r=4)))
    model.push_to_hub(ID)
    again = PeftModel.from_pretrained(base(), ID).eval()
    return [output(model) == output(again), output(model) != output(base())]


def adapters() -> Any:
    """The same by ``adapters``, which also writes a card; that its push writes a pickle has to be changed first."""
    import adapters

    model = base()
    adapters.init(model)
    model.add_adapter("task", config="seq_bn")
    model.train_adapter("task")
    shaken(model).set_active_adapters("task")
    refused = ""
    try:
        model.push_adapter_to_hub(ID, "task")
    except OSError as error:
        refused = str(error)
    model.save_adapter = partial(model.save_adapter, use_safetensors=True)
    model.push_adapter_to_hub(ID, "task", datasets_tag="sst2")
    other = base()
    adapters.init(other)
    name = other.load_adapter(ID, set_active=True, use_safetensors=True)
    with adapters.AdapterSetup(name):
        same = output(model) == output(other.eval())
    return [name, same, output(model) != output(base()), "adapterhub convert" in refused]


def transformers() -> Any:
    """A model, its configuration and its weights."""
    base().push_to_hub(ID)
    again = tf.AutoModel.from_pretrained(ID).eval()
    return [output(again) == output(base()), type(again).__name__]


if __name__ == "__main__":
    tasks: dict[str, Callable[[], Any]] = {"peft": peft, "adapters": adapters, "transformers": transformers}
    print(json.dumps(tasks[sys.argv[1]]()))
