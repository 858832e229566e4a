"""Writes ``adapters_api.json``: every public name of ``adapters`` 1.3.0 and the names of its arguments.

Runs in the environment of the peers: ``.venv-peers/bin/python tests/golden/api.py``.
"""

import inspect
import json
from pathlib import Path
from types import ModuleType

import adapters
import adapters.composition
import adapters.heads
import transformers as tf

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20, "vocab_size": 30}


def arguments(thing: object) -> list[str] | None:
    """Names of the arguments of what can be called, without ``self``; None for anything else."""
    if not callable(thing):
        return None
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return []
    return [name for name, one in signature.parameters.items() if one.kind not in kinds and name != "self"]


def names(module: ModuleType) -> dict[str, list[str] | None]:
    """Public names of a module, apart from modules."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_") and "." not in name}
    own = {name: one for name, one in found.items() if not isinstance(one, ModuleType)}
    return {
        name: arguments(one)
        for name, one in own.items()
        if (getattr(one, "__module__", None) or "adapters").partition(".")[0] == "adapters"
    }


def members(model: object) -> dict[str, list[str] | None]:
    """Public methods and properties that ``adapters`` gives a model."""
    found = {}
    for kind in type(model).__mro__:
        if kind.__module__.partition(".")[0] != "adapters":
            continue
        for name, one in vars(kind).items():
            if not name.startswith("_") and name not in found:
                found[name] = None if isinstance(one, property) else arguments(getattr(model, name, None))
    return dict(sorted(found.items()))


def main() -> None:
    plain = tf.BertForMaskedLM(tf.BertConfig(**TINY))
    adapters.init(plain)
    content = {
        "version": adapters.__version__,
        "configurations": {name: config.to_dict() for name, config in sorted(adapters.ADAPTER_CONFIG_MAP.items())},
        "module": names(adapters),
        "composition": names(adapters.composition),
        "heads": names(adapters.heads),
        "model": members(plain),
        "base": members(plain.bert),
        "flexible": members(adapters.BertAdapterModel(tf.BertConfig(**TINY))),
    }
    path = Path(__file__).with_name("adapters_api.json")
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
