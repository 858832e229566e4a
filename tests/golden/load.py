"""Loads what this library wrote by ``adapters`` and PEFT themselves, and keeps what they compute.

Runs in the environment of the peers: ``.venv-peers/bin/python tests/golden/load.py FOLDER``. ``cases.json`` in the
folder lists what to load; ``tests/checkpoints/test_peers.py`` writes it, and compares.
"""

import json
import sys
import warnings
from pathlib import Path

import adapters
import peft
import torch
import transformers as tf
from make import ARCHITECTURES, BARE, build, flexible
from safetensors.torch import load_file, save_file

OUTPUTS = ("logits", "last_hidden_state", "logits_per_text")


def by_adapters(case, folder):
    """What ``adapters`` gives with an adapter and its head, or with a whole setup."""
    if case["head"]:
        config = tf.BertConfig(**ARCHITECTURES["bert"][1], num_labels=4)
        model = tf.BertForSequenceClassification(config)
        adapters.init(model)
        model.bert.load_state_dict(build("bert").state_dict(), strict=False)
    elif case["path"]:
        model = getattr(tf, case["path"]).from_pretrained(folder.parent / "bases" / case["base"])
        model.set_attn_implementation("eager")
        adapters.init(model)
    else:
        model = flexible(case["base"])
    if case["setup"]:
        model.load_adapter_setup(str(folder), set_active=True, use_safetensors=True)
        return model
    info = {}
    model.load_adapter(str(folder), set_active=True, use_safetensors=True, loading_info=info)
    assert not info.get("unexpected_keys"), info
    assert all(".pool." in key or "prefix_tuning" in key for key in info.get("missing_keys", ())), info
    return model


def by_peft(case, folder):
    """What PEFT gives on the class with a head that the adapter was made for, or on the bare model."""
    if case["path"]:
        model = getattr(tf, case["path"]).from_pretrained(folder.parent / "bases" / case["base"])
        return peft.PeftModel.from_pretrained(model, folder)
    if not case["head"]:
        return peft.PeftModel.from_pretrained(build(case["base"]), folder)
    prefix, settings = (ARCHITECTURES | BARE)[case["base"]]
    config = getattr(tf, f"{prefix}Config")(**settings | ({} if case["base"] == "bert" else {"pad_token_id": 0}))
    model = getattr(tf, f"{prefix}ForSequenceClassification")(config)
    getattr(model, model.base_model_prefix).load_state_dict(build(case["base"]).state_dict())
    return peft.PeftModel.from_pretrained(model, folder)


def main(folder):
    torch.set_num_threads(1)
    given = load_file(folder / "inputs.safetensors")
    outputs, errors = {}, {}
    for case in json.loads((folder / "cases.json").read_text()):
        name = case["name"]
        own = {key.rpartition("/")[2]: value for key, value in given.items() if key.startswith(f"{name}/")}
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.filterwarnings("error", message=".*missing adapter keys.*")
                model = (by_adapters if case["peer"] == "adapters" else by_peft)(case, folder / name)
                result = model.eval()(**own)
                output = next(result[one] for one in OUTPUTS if one in result)
                start, end = case["prompt"]  # of which adapters gives scores too
                outputs[name] = torch.cat((output[:, :start], output[:, end:]), dim=1).contiguous()
        except Exception as error:  # said by the test that this case belongs to
            errors[name] = f"{type(error).__name__}: {error}"
    save_file(outputs, folder / "outputs.safetensors")
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
